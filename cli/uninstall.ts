/**
 * `ambit uninstall`: says what it means for the pods that are in the mesh, takes the agents away first, because only they can
 * clean their nodes up, hears from each node that it is as before, then removes the rest.
 */
import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { REDIRECTION_ANNOTATION } from '../core/enrolment/redirection.ts';
import { AmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { kubeObject } from '../kube/object.ts';
import { RESOURCES } from '../kube/resource.ts';
import { annotationOf, namespaceOf } from './check/fields.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { removeRelease } from './install/helm.ts';
import { removeAgents } from './install/remove-agents.ts';
import { removeLeftovers } from './install/remove-leftovers.ts';
import { type OutputFormat, outputOption } from './output.ts';
import { conclude, progress, type Say } from './progress.ts';

interface UninstallOptions extends ClusterOptions {
  readonly yes?: true;
  readonly purge?: true;
  /** Seconds. */
  readonly timeout: string;
  readonly output: OutputFormat;
}

export function uninstallCommand(): Command {
  const command = new Command('uninstall')
    .description('Take Ambit off the cluster; pods of the mesh go on in plain text, nodes are left as they were')
    .option('-y, --yes', 'do not ask')
    .option('--purge', 'also the root of the CA and the definitions of policies, with all policies')
    .option('--timeout <seconds>', 'how long the agents may take to clean up', '120')
    .addOption(outputOption());
  return clusterOptions(command).action(async (options: UninstallOptions) => {
    const client = KubeClient.open({ kubeconfig: options.kubeconfig, context: options.context, userAgent });
    try {
      await run(client, options);
    } finally {
      client.close();
    }
  });
}

async function run(client: KubeClient, options: UninstallOptions): Promise<void> {
  const { namespace } = options;
  const say = progress(options.output);
  await askAboutPods(client, options, say);
  const nodes = await removeAgents(client, namespace, Number(options.timeout) * 1000);
  for (const { node, ok, text } of nodes) say(`  ${ok ? '√' : '×'} ${node}  ${text}`);
  await removeRelease(options);
  const removed = await removeLeftovers(client, namespace, options.purge === true);
  say(`removed: the release${removed === '' ? '' : `, ${removed}`}`);
  if (options.purge !== true) {
    say('kept: the root of the CA and the definitions of policies, for a later installation (--purge removes them)');
  }
  conclude(options.output, { nodes, removed });
  const unclean = nodes.filter(({ ok }) => !ok).map(({ node }) => node);
  if (unclean.length > 0) {
    throw new AmbitError(
      'USAGE',
      `not proven clean: ${unclean.join(', ')}; see docs/INSTALL.md, "A node that was not cleaned up"`,
    );
  }
}

/** Nobody should learn afterwards that traffic is in plain text now. */
async function askAboutPods(client: KubeClient, options: UninstallOptions, say: Say): Promise<void> {
  const { items } = await client.list(RESOURCES.Pod);
  const captured = items
    .flatMap((item) => kubeObject(item) ?? [])
    .filter((pod) => annotationOf(pod, REDIRECTION_ANNOTATION) !== undefined);
  if (captured.length === 0) {
    say('no pod is in the mesh');
    return;
  }
  const namespaces = [...new Set(captured.map(namespaceOf))].sort();
  say(`${captured.length} pods in ${namespaces.join(', ')} are in the mesh. They go on without it:`);
  say(
    '  their traffic is no longer encrypted, and no policy is enforced any more. Open connections are not cut by this.',
  );
  if (options.yes === true) return;
  if (process.stdin.isTTY !== true) {
    throw new AmbitError('CONFIGURATION', 'pods are in the mesh: say --yes, or take the labels away first');
  }
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = await prompt.question('go on? [y/N] ');
    if (!/^y(es)?$/i.test(answer.trim())) throw new AmbitError('CONFIGURATION', 'nothing was changed');
  } finally {
    prompt.close();
  }
}
