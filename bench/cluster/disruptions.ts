/**
 * What clients notice while something is changed: kept connections (8, together 200 requests/s) and new ones (4 at a time,
 * together 100/s) run from the first node to a server on the second, and the change happens under them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '../../test/support/cluster.ts';
import { type HttpResult, httpLoad, longStream } from './load.ts';
import { killAgent } from './usage.ts';
import { type LoadNamespace, MESH, MESH_LABEL, PLAIN, podStates } from './world.ts';

/** The load runs for this long before anything is changed. */
const LEAD_MS = 3000;
/** What one request needs when nothing happens, in the run of new connections: gives the time without service. */
const NEW_PER_SECOND = 100;

export interface Disruption {
  readonly name: string;
  readonly kept: HttpResult;
  readonly fresh: HttpResult;
  /** Further numbers of this change, milliseconds where the name says so. */
  readonly values: Readonly<Record<string, number>>;
}

interface Change {
  readonly name: string;
  readonly within: LoadNamespace;
  readonly server: string;
  readonly seconds: number;
  readonly run: () => Promise<Record<string, number>>;
}

export async function labelUnderLoad(cluster: Cluster): Promise<Disruption> {
  const label = async (value: string): Promise<number> => {
    const began = performance.now();
    await cluster.kubectl(['label', 'namespace', PLAIN, '--overwrite', `${MESH_LABEL}${value}`]);
    return began;
  };
  const untilAll = async (captured: boolean, began: number): Promise<number> => {
    for (;;) {
      const states = await podStates(cluster, PLAIN);
      if (states.every((state) => state.captured === captured)) return Math.round(performance.now() - began);
      if (performance.now() - began > 30_000) throw new Error('pods do not follow the label');
    }
  };
  return await underLoad(cluster, {
    name: 'label and unlabel',
    within: PLAIN,
    server: 'fs2',
    seconds: 16,
    run: async () => {
      try {
        const labelledMs = await untilAll(true, await label('=ambient'));
        await sleep(4000);
        return { labelledMs, unlabelledMs: await untilAll(false, await label('-')) };
      } finally {
        await label('-');
      }
    },
  });
}

/** Twice, the second time while a supervisor might still hold a grudge. `which`: first or second node. */
export async function killUnderLoad(cluster: Cluster, which: 0 | 1): Promise<Disruption> {
  const node = (await cluster.nodes())[which] ?? '';
  const disruption = await underLoad(cluster, {
    name: `agent killed twice, ${which === 0 ? "client's" : "server's"} node`,
    within: MESH,
    server: 'fs2',
    seconds: 20,
    run: async () => {
      await killAgent(cluster, node);
      await sleep(6000);
      await killAgent(cluster, node);
      return {};
    },
  });
  const withoutServiceMs = Math.round((disruption.fresh.failed / NEW_PER_SECOND / 2) * 1000);
  return { ...disruption, values: { ...disruption.values, withoutServiceMs } };
}

/** With a stream that outlives the grace period, cross-node and on one node. */
export async function agentRollout(cluster: Cluster): Promise<Disruption> {
  const seconds = 55;
  const streams = ['fs2', 'fs1'].map((server) => longStream(cluster, { within: MESH, server, seconds: seconds - 5 }));
  const disruption = await underLoad(cluster, {
    name: 'agent rollout',
    within: MESH,
    server: 'fs2',
    seconds,
    run: () => rollout(cluster, 'istio-system', 'daemonset/ambit-agent'),
  });
  const [crossStreamSeconds = 0, sameStreamSeconds = 0] = await Promise.all(streams);
  return { ...disruption, values: { ...disruption.values, crossStreamSeconds, sameStreamSeconds } };
}

export function controlRestart(cluster: Cluster): Promise<Disruption> {
  const run = () => rollout(cluster, 'istio-system', 'deployment/ambit-control');
  return underLoad(cluster, { name: 'control restart', within: MESH, server: 'fs2', seconds: 14, run });
}

export function destinationRollout(cluster: Cluster, within: LoadNamespace): Promise<Disruption> {
  const name = `destination rollout, ${within === MESH ? 'mesh' : 'no mesh'}`;
  const run = () => rollout(cluster, within, 'deployment/roll');
  return underLoad(cluster, { name, within, server: 'roll', seconds: 16, run });
}

async function rollout(cluster: Cluster, within: string, workload: string): Promise<Record<string, number>> {
  const began = performance.now();
  await cluster.kubectl(['rollout', 'restart', '-n', within, workload]);
  await cluster.waitForRollout(within, workload, 60);
  return { rolloutMs: Math.round(performance.now() - began) };
}

async function underLoad(cluster: Cluster, { name, within, server, seconds, run }: Change): Promise<Disruption> {
  const [kept, fresh, values] = await Promise.all([
    httpLoad(cluster, { within, server, seconds, connections: 8, rate: 200, keepAlive: true }),
    httpLoad(cluster, { within, server, seconds, connections: 4, rate: NEW_PER_SECOND, keepAlive: false }),
    sleep(LEAD_MS).then(run),
  ]);
  return { name, kept, fresh, values };
}
