/**
 * `ambit test connectivity`: does the mesh carry, encrypt, allow and deny as it should in this cluster? With `--disrupt`
 * connections are kept open while something else happens (an upgrade), and what breaks is counted.
 */
import { randomBytes } from 'node:crypto';
import { Command } from 'commander';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { type KubeObject, kubeObject } from '../kube/object.ts';
import { RESOURCES } from '../kube/resource.ts';
import { findAgents, pagesOf } from './agents.ts';
import { at, conditionOf, labelOf, listAt, textAt } from './check/fields.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { type DisruptReport, watchDisruption } from './connectivity/disrupt.ts';
import { planTest } from './connectivity/objects.ts';
import { type Outcome, SCENARIOS } from './connectivity/scenarios.ts';
import { TestBed } from './connectivity/test-bed.ts';
import { formatDuration, type OutputFormat, outputOption } from './output.ts';
import { conclude, progress, type Say } from './progress.ts';

interface ConnectivityOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly image?: string;
  readonly testNamespace?: string;
  readonly disrupt?: true;
  /** Seconds. */
  readonly duration?: string;
  readonly keep?: true;
}

export interface ConnectivityResult extends Outcome {
  readonly id: string;
  readonly about: string;
  readonly ms: number;
}

const SIGNS: Readonly<Record<Outcome['level'], string>> = { ok: '√', failed: '×', skipped: '-' };
const DISRUPT_SECONDS = 3600;

export function testCommand(): Command {
  const connectivity = new Command('connectivity')
    .description(
      'Put pods into the mesh and see whether it carries, encrypts, allows and denies (exit code 0: yes, 1: no)',
    )
    .option('--image <name>', 'an image with Node.js that strips types (default: that of the agents)')
    .option('--test-namespace <name>', 'namespace that is made and removed (default: ambit-test- and a random part)')
    .option(
      '--disrupt',
      'keep connections open until Ctrl-C or --duration and count what breaks, for example in an upgrade',
    )
    .option('--duration <seconds>', `how long --disrupt goes on (default: ${DISRUPT_SECONDS})`)
    .option('--keep', 'leave the pods in place');
  return new Command('test').description('Try the mesh in a cluster').addCommand(
    clusterOptions(connectivity)
      .addOption(outputOption())
      .action(async (options: ConnectivityOptions) => {
        const { kubeconfig, context } = options;
        const client = KubeClient.open({ kubeconfig, context, userAgent });
        try {
          await run(client, options);
        } finally {
          client.close();
        }
      }),
  );
}

async function run(client: KubeClient, options: ConnectivityOptions): Promise<void> {
  const { namespace, output } = options;
  const say = progress(output);
  const durationMs = durationOf(options);
  const agents = await findAgents(client, namespace);
  const image = options.image ?? (await agentImage(client, namespace));
  const plan = planTest(
    options.testNamespace ?? `ambit-test-${randomBytes(3).toString('hex')}`,
    image,
    await findNodes(
      client,
      agents.map(({ node }) => node),
    ),
  );
  const stop = new AbortController();
  const interrupt = (): void => stop.abort(new AmbitError('USAGE', 'interrupted'));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const bed = new TestBed(client, plan, stop.signal);
  try {
    say(
      `namespace ${plan.namespace}, image ${image}, nodes ${[...new Set(plan.pods.map(({ node }) => node))].join(', ')}`,
    );
    await bed.create(say);
    if (options.disrupt === true) {
      const report = await watchDisruption(bed, { durationMs, say, signal: stop.signal });
      conclude(output, report);
      if (isBroken(report)) process.exitCode = 1;
    } else {
      const world = { bed, agents, read: pagesOf(client) };
      const results: ConnectivityResult[] = [];
      for (const { id, about, run: attempt } of SCENARIOS) {
        stop.signal.throwIfAborted();
        const startedMs = performance.now();
        const outcome = await attempt(world).catch((thrown: unknown): Outcome => {
          return { level: 'failed', text: toAmbitError(thrown, 'NOT_RUNNING').message };
        });
        const result = { id, about, ...outcome, ms: Math.round(performance.now() - startedMs) };
        say(`  ${SIGNS[result.level]} ${id.padEnd(WIDTH)}  ${about}\n      ${result.text}`);
        results.push(result);
      }
      conclude(output, results);
      say(summary(results));
      if (results.some(({ level }) => level === 'failed')) process.exitCode = 1;
    }
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
    if (bed.begun && options.keep !== true) await remove(bed, say);
  }
}

const WIDTH = Math.max(...SCENARIOS.map(({ id }) => id.length));

/** The result counts, whatever comes of the removal. */
async function remove(bed: TestBed, say: Say): Promise<void> {
  try {
    await bed.remove();
    say(`namespace ${bed.plan.namespace} is removed`);
  } catch (thrown) {
    process.stderr.write(`ambit: ${toAmbitError(thrown, 'NOT_RUNNING').message}\n`);
    process.exitCode = 1;
  }
}

function summary(results: readonly ConnectivityResult[]): string {
  const number = (level: Outcome['level']): number => results.filter((one) => one.level === level).length;
  const skipped = number('skipped') === 0 ? '' : `, ${number('skipped')} not tried`;
  const ms = results.reduce((sum, one) => sum + one.ms, 0);
  return `${number('ok')} ok, ${number('failed')} failed${skipped} in ${formatDuration(ms)}`;
}

function isBroken({ failures, breaks }: DisruptReport): boolean {
  return failures + breaks > 0;
}

function durationOf({ duration }: ConnectivityOptions): number {
  const seconds = Number(duration ?? DISRUPT_SECONDS);
  if (Number.isFinite(seconds) && seconds > 0) return seconds * 1000;
  throw new AmbitError('USAGE', `--duration takes seconds, not ${duration}`);
}

/** The image that is on every node already. */
async function agentImage(client: KubeClient, namespace: string): Promise<string> {
  const { items } = await client.list(RESOURCES.DaemonSet, { namespace });
  const daemonSet = items
    .flatMap((item) => kubeObject(item) ?? [])
    .find((one) => labelOf(one, NAME_LABEL) === 'ambit-agent');
  const [container] = listAt(daemonSet, 'spec', 'template', 'spec', 'containers');
  const image = textAt(container, 'image');
  if (image === '') throw new AmbitError('NOT_RUNNING', `no DaemonSet of agents in the namespace ${namespace}`);
  return image;
}

const NAME_LABEL = 'app.kubernetes.io/name';

/** Two nodes with an agent that take pods, if there are two. */
async function findNodes(client: KubeClient, withAgent: readonly string[]): Promise<string[]> {
  const { items } = await client.list(RESOURCES.Node);
  const nodes = items.flatMap((item) => kubeObject(item) ?? []).filter(takesPods);
  const names = nodes.map(({ metadata }) => metadata.name).filter((name) => withAgent.includes(name));
  if (names.length > 0) return names.slice(0, 2);
  throw new AmbitError('NOT_RUNNING', 'no node that takes pods has an agent');
}

function takesPods(node: KubeObject): boolean {
  const keepsAway = (taint: unknown): boolean => ['NoSchedule', 'NoExecute'].includes(textAt(taint, 'effect'));
  return (
    conditionOf(node, 'Ready') === 'True' &&
    at(node, 'spec', 'unschedulable') !== true &&
    !listAt(node, 'spec', 'taints').some(keepsAway)
  );
}
