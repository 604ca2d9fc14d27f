/** `ambit status`: the mesh on one screen, or, with `--wait`, as soon as everything in it is as it should be. */
import { Command } from 'commander';
import { AmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { pagesOf } from './agents.ts';
import { CheckWorld } from './check/world.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';
import { type MeshStatus, readStatus } from './status/read-status.ts';
import { renderStatus } from './status/render-status.ts';

interface StatusOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly wait?: true;
  /** Seconds. */
  readonly timeout: string;
}

const LOOK_INTERVAL_MS = 1_000;

export function statusCommand(): Command {
  const command = new Command('status')
    .description('The mesh on one screen: control plane, agents, namespaces, policies (exit code 0: all well, 1: not)')
    .option('--wait', 'until everything is as it should be')
    .option('--timeout <seconds>', 'how long to wait', '300');
  return clusterOptions(command)
    .addOption(outputOption())
    .action(async (options: StatusOptions) => {
      const { kubeconfig, context, namespace } = options;
      const client = KubeClient.open({ kubeconfig, context, userAgent });
      try {
        // Every look is a new picture.
        const look = (): Promise<MeshStatus> =>
          readStatus(new CheckWorld({ client, pages: pagesOf(client), namespace, node: undefined, nowMs: Date.now }));
        const status =
          options.wait === true ? await waitForHealth(look, secondsOf(options.timeout) * 1000) : await look();
        printResult(options.output, status, (found) => renderStatus(found, process.stdout.isTTY === true));
        if (status.problems.length > 0) process.exitCode = 1;
      } finally {
        client.close();
      }
    });
}

/** The first picture without problems, or the last one in time. What is waited for is said on standard error. */
async function waitForHealth(look: () => Promise<MeshStatus>, withinMs: number): Promise<MeshStatus> {
  const endMs = performance.now() + withinMs;
  let said = '';
  for (;;) {
    const status = await look();
    const reason = status.problems.join('; ');
    if (reason === '' || performance.now() >= endMs) return status;
    if (reason !== said) process.stderr.write(`waiting: ${reason}\n`);
    said = reason;
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (Number.isFinite(seconds) && seconds > 0) return seconds;
  throw new AmbitError('USAGE', `--timeout takes seconds, not ${text}`);
}
