/**
 * The load test on a real cluster: everything that users of a mesh notice, measured without it and with it in one run.
 *
 *   node_modules/.bin/node bench/cluster/main.ts [--quick] [--kubeconfig FILE] [--image TAG] [--only STEP,...] [--out FILE]
 *
 *   --quick       one short round; the changes of a few seconds only
 *   --kubeconfig  a cluster that is there (see test/cluster/README.md); default: a two-node bed of its own
 *   --image       an image that every node has (`global.tag`), instead of one built from these sources
 *   --installed   Ambit runs there already and stays as it is
 *   --only        some of: rates, pod-start, label, kill, control, destination, rollout, reinstall
 *
 * Steps are independent: one that fails is in the results as a failure. After BUDGET_MS no further step begins.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildAmbitImage } from '../../test/support/ambit-image.ts';
import { type Cluster, openCluster, run } from '../../test/support/cluster.ts';
import { clusterBinary } from '../../test/support/cluster-binaries.ts';
import { ROOT } from '../../test/support/source-files.ts';
import { agentRollout, controlRestart, destinationRollout, killUnderLoad, labelUnderLoad } from './disruptions.ts';
import { loadLoadImage } from './load-image.ts';
import { measurePodStarts } from './pod-start.ts';
import { measureRates } from './rates.ts';
import { type ClusterResults, renderReport } from './report.ts';
import { agentUsage, controlUsage, machine } from './usage.ts';
import { createWorld, MESH, PLAIN, podStates, removeWorld } from './world.ts';

/** The last step may end two minutes later. */
const BUDGET_MS = 13 * 60_000;
const INSTALL_TIMEOUT_MS = 300_000;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    kubeconfig: { type: 'string' },
    image: { type: 'string' },
    installed: { type: 'boolean', default: false },
    only: { type: 'string' },
    out: { type: 'string' },
  },
});

const { quick } = options;
const startedMs = performance.now();
const wanted = options.only?.split(',');
const results: ClusterResults = {
  startedAt: new Date().toISOString(),
  quick,
  machine: {},
  installSeconds: {},
  rates: [],
  disruptions: [],
  podStarts: [],
  memory: [],
  failures: [],
};

if (options.kubeconfig !== undefined) process.env.AMBIT_TEST_KUBECONFIG = options.kubeconfig;
await using cluster = await openCluster();
await measure(cluster);
const date = results.startedAt.slice(0, 10);
const file = options.out ?? join(ROOT, 'bench', 'results', `cluster-${date}.json`);
await writeFile(file, `${JSON.stringify(results, undefined, 1)}\n`);
process.stdout.write(`${renderReport(results)}\n\n${file}\n`);

async function measure(on: Cluster): Promise<void> {
  const tag = await prepareImages(on);
  if (!options.installed) {
    await required('install', async () => {
      results.installSeconds.cold = await install(on, tag);
    });
  }
  try {
    await required('workloads', () => prepareWorld(on));
    await noteMemory(on, 'idle');
    await step('rates', () =>
      measureRates(on, {
        rounds: quick ? 1 : 2,
        seconds: quick ? 2 : 4,
        onSample: (sample) => {
          results.rates.push(sample);
          say(`${sample.measure} ${sample.path} ${sample.mesh ? 'mesh' : 'plain'} ${JSON.stringify(sample.values)}`);
        },
      }),
    );
    await noteMemory(on, 'after load');
    await step('pod-start', async () => void results.podStarts.push(...(await measurePodStarts(on, quick ? 3 : 10))));
    await step('label', async () => void results.disruptions.push(await labelUnderLoad(on)));
    await step('destination', async () => {
      for (const within of [PLAIN, MESH] as const) results.disruptions.push(await destinationRollout(on, within));
    });
    await step('control', async () => void results.disruptions.push(await controlRestart(on)));
    await step('kill', async () => {
      for (const which of quick ? ([0] as const) : ([0, 1] as const))
        results.disruptions.push(await killUnderLoad(on, which));
    });
    if (!quick) await step('rollout', async () => void results.disruptions.push(await agentRollout(on)));
    await noteMemory(on, 'at the end');
  } finally {
    await removeWorld(on);
  }
  if (quick || options.installed) return;
  await step('reinstall', async () => {
    await ambit(on, ['uninstall', '-y']);
    results.installSeconds.warm = await install(on, tag);
  });
}

async function prepareImages(on: Cluster): Promise<string | undefined> {
  say('images');
  await loadLoadImage(on);
  if (options.installed || options.image !== undefined) return options.image;
  const { name } = await buildAmbitImage();
  await on.loadImage(name);
  return undefined;
}

async function prepareWorld(on: Cluster): Promise<void> {
  await createWorld(on);
  for (const began = performance.now(); ; ) {
    if ((await podStates(on, MESH)).every(({ captured }) => captured)) return;
    if (performance.now() - began > 60_000) throw new Error('the pods of the mesh are not captured');
  }
}

/** Seconds until everything is ready. */
async function install(on: Cluster, tag: string | undefined): Promise<number> {
  const began = performance.now();
  await ambit(on, ['install', '-y', ...(tag === undefined ? [] : ['--set', `global.tag=${tag}`])]);
  return Math.round((performance.now() - began) / 100) / 10;
}

function ambit(on: Cluster, args: readonly string[]): Promise<string> {
  const environment = { KUBECONFIG: on.kubeconfig, HELM: clusterBinary('helm') };
  return run(process.execPath, [join(ROOT, 'cli', 'main.ts'), ...args], { environment, timeoutMs: INSTALL_TIMEOUT_MS });
}

async function noteMemory(on: Cluster, when: string): Promise<void> {
  for (const node of await on.nodes()) {
    const [agent, control] = await Promise.all([agentUsage(on, node), controlUsage(on, node)]);
    results.memory.push({ when, node, agent, control });
  }
}

/** Nothing can be measured without it. */
async function required(name: string, action: () => Promise<void>): Promise<void> {
  say(name);
  results.machine[name] = machine();
  await action();
}

async function step(name: string, action: () => Promise<void>): Promise<void> {
  if (wanted !== undefined && !wanted.includes(name)) return;
  const spentMs = performance.now() - startedMs;
  say(`${name} (${Math.round(spentMs / 1000)} s, ${JSON.stringify(machine())})`);
  results.machine[name] = machine();
  try {
    if (spentMs > BUDGET_MS) throw new Error('the time of the run was used up before');
    await action();
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    results.failures.push({ step: name, reason });
    say(`${name} failed: ${reason}`);
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
