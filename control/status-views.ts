/** What operators see of a running control plane: the metrics of the moment, and the read-only views under /debug. */
import type { MeshBuilder } from './discovery/mesh-builder.ts';
import { RESOURCE_TYPES } from './discovery/resource.ts';
import type { Identity } from './identity.ts';
import type { Leader } from './leader/leader.ts';
import type { MeshPipeline } from './mesh-pipeline.ts';
import type { ControlMetrics } from './metrics.ts';
import type { KindState, Source } from './sources/source.ts';
import type { DiscoveryService } from './xds/discovery-service.ts';

export interface Observed {
  readonly replica: string;
  readonly source: Source;
  readonly metrics: ControlMetrics;
  readonly builder: MeshBuilder;
  readonly discovery: DiscoveryService;
  readonly pipeline: MeshPipeline;
  readonly identity: Identity;
  readonly leader: Leader | undefined;
}

/** Sets the gauges that are read off the state, and formats all families. */
export async function collectMetrics(seen: Observed): Promise<{ contentType: string; text: string }> {
  const { metrics, discovery, identity, leader, pipeline, source } = seen;
  const expiry = identity.expiry();
  if (expiry !== undefined) {
    const now = Date.now();
    metrics.rootExpiry.set(Math.floor(expiry.rootMs / 1000));
    metrics.rootExpirySeconds.set(Math.floor((expiry.rootMs - now) / 1000));
    metrics.chainExpiry.set(Math.floor(expiry.chainMs / 1000));
    metrics.chainExpirySeconds.set(Math.floor((expiry.chainMs - now) / 1000));
  }
  for (const type of RESOURCE_TYPES) metrics.resources.set({ type }, discovery.store(type).size);
  const { clients, behind } = discovery.counts();
  metrics.connectedClients.set(clients);
  metrics.clientsBehind.set(behind);
  metrics.unpublishedChanges.set(pipeline.waiting);
  for (const { kind, state, objects } of source.kinds?.() ?? []) {
    for (const each of KIND_STATES) metrics.sourceKinds.set({ kind, state: each }, each === state ? 1 : 0);
    metrics.sourceObjects.set({ kind }, objects);
  }
  metrics.leading.set(leader?.isLeader === true ? 1 : 0);
  for (const { name, waiting, failing } of leader?.tasks() ?? []) {
    metrics.taskQueue.set({ task: name }, waiting);
    metrics.taskFailing.set({ task: name }, failing.length);
  }
  const { registry } = metrics;
  return { contentType: registry.contentType, text: await registry.metrics() };
}

const KIND_STATES: readonly KindState['state'][] = ['listing', 'synced', 'degraded', 'absent'];

/** By the name under /debug. */
export function statusViews({
  replica,
  source,
  builder,
  discovery,
  pipeline,
  identity,
  leader,
}: Observed): ReadonlyMap<string, () => unknown> {
  const resources = (): unknown =>
    Object.fromEntries(
      RESOURCE_TYPES.map((type) => {
        const store = discovery.store(type);
        return [type, Object.fromEntries([...store.names()].map((name) => [name, store.find(name)?.version]))];
      }),
    );
  return new Map<string, () => unknown>([
    ['problems', () => pipeline.currentProblems()],
    ['source', () => source.kinds?.() ?? []],
    ['conditions', () => Object.fromEntries(builder.conditions())],
    ['clients', () => discovery.clients()],
    ['resources', resources],
    ['ca', () => identity.view()],
    [
      'leader',
      () => ({
        replica,
        leading: leader?.isLeader ?? false,
        leader: leader?.leader ?? '',
        tasks: leader?.tasks() ?? [],
      }),
    ],
  ]);
}
