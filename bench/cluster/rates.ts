/**
 * Latency, rates and what they cost: every measurement is made without mesh and with it right after one another, in an
 * order that changes from round to round.
 */
import type { Cluster } from '../../test/support/cluster.ts';
import { httpLoad, round, streamLoad } from './load.ts';
import { agentUsage } from './usage.ts';
import { type LoadNamespace, MESH, PATHS, type Path, PLAIN, SERVER_OF } from './world.ts';

export const MEASURES = ['paced', 'most', 'stream', 'connections'] as const;
export type Measure = (typeof MEASURES)[number];

export interface RateSample {
  readonly round: number;
  readonly measure: Measure;
  readonly path: Path;
  readonly mesh: boolean;
  readonly values: Readonly<Record<string, number>>;
}

export interface RateOptions {
  readonly rounds: number;
  /** Of one measurement. */
  readonly seconds: number;
  readonly onSample: (sample: RateSample) => void;
}

export async function measureRates(cluster: Cluster, { rounds, seconds, onSample }: RateOptions): Promise<void> {
  const nodes = await cluster.nodes();
  for (let index = 0; index < rounds; index++) {
    const order: LoadNamespace[] = index % 2 === 0 ? [PLAIN, MESH] : [MESH, PLAIN];
    for (const path of PATHS) {
      for (const measure of MEASURES) {
        for (const within of order) {
          const values = await one(cluster, nodes, { within, path, measure, seconds });
          onSample({ round: index, measure, path, mesh: within === MESH, values });
        }
      }
    }
  }
}

interface Job {
  readonly within: LoadNamespace;
  readonly path: Path;
  readonly measure: Measure;
  readonly seconds: number;
}

async function one(cluster: Cluster, nodes: readonly string[], job: Job): Promise<Record<string, number>> {
  const before = await agentCpu(cluster, nodes);
  const { units, values } = await load(cluster, job);
  if (job.within === PLAIN) return values;
  const used = (await agentCpu(cluster, nodes)) - before;
  return { ...values, agentCpuSeconds: round(used), agentCpuMicrosPerUnit: Math.round((used / units) * 1e6) };
}

/** `units`: requests, connections, or Gbit. */
async function load(
  cluster: Cluster,
  { within, path, measure, seconds }: Job,
): Promise<{ readonly units: number; readonly values: Record<string, number> }> {
  const server = SERVER_OF[path];
  if (measure === 'stream') {
    const gigabits = await streamLoad(cluster, { within, server, seconds });
    return { units: gigabits * seconds, values: { gigabits } };
  }
  const shape = {
    paced: { connections: 4, rate: 1000, keepAlive: true },
    most: { connections: 16, keepAlive: true },
    connections: { connections: 8, keepAlive: false },
  }[measure];
  const { requests, perSecond, failed, p50Ms, p90Ms, p99Ms } = await httpLoad(cluster, {
    within,
    server,
    seconds,
    ...shape,
  });
  return { units: requests, values: { perSecond, failed, p50Ms, p90Ms, p99Ms } };
}

async function agentCpu(cluster: Cluster, nodes: readonly string[]): Promise<number> {
  const usages = await Promise.all(nodes.map((node) => agentUsage(cluster, node)));
  return usages.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
}
