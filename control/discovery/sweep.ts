/** Finding what is stale, a bounded number of objects per step. The object store may change between steps. */
import type { ObjectStore } from '../model/object-store.ts';
import type { MeshObject } from '../objects/object.ts';
import { EVERYWHERE, type Sweep } from './backlog.ts';
import { endpointLabels } from './workload-entry.ts';

const OBJECTS_PER_STEP = 64;
/** In workloads built. */
export const COST_OF_LOOK = 0.2;

/** Kinds of which workloads come, and all of which resources come. */
const WORKLOADS = ['Pod', 'WorkloadEntry', 'ServiceEntry'] as const;
const OBJECTS = ['Service', 'EndpointSlice', ...WORKLOADS] as const;

/** What a sweep tells of the objects it finds. */
export interface SweepSink {
  /** The workloads that come from it must be built anew. */
  staleWorkloads(object: MeshObject): void;
  /** Everything that comes from it must be built anew. */
  staleObject(object: MeshObject): void;
}

/** Gives costs. */
export function* sweepObjects(sweep: Sweep, store: ObjectStore, sink: SweepSink): Generator<number, void, void> {
  let looked = 0;
  for (const object of inScope(sweep, store)) {
    if (sweep.kind === 'objects') {
      if (sweep.tests.some((test) => test(object))) sink.staleObject(object);
    } else if (sweep.selectors === undefined || sweep.selectors.matching(sweep.scope, labelsOf(object)).length > 0) {
      sink.staleWorkloads(object);
    }
    if (++looked % OBJECTS_PER_STEP === 0) yield OBJECTS_PER_STEP * COST_OF_LOOK;
  }
  yield (looked % OBJECTS_PER_STEP) * COST_OF_LOOK;
}

function* inScope(sweep: Sweep, store: ObjectStore): Iterable<MeshObject> {
  for (const kind of sweep.kind === 'objects' ? OBJECTS : WORKLOADS) {
    if (sweep.kind === 'objects' || sweep.scope === EVERYWHERE) yield* store.all(kind);
    else yield* store.inNamespace(kind, sweep.scope);
  }
}

/** Endpoints of ServiceEntries carry the policies that select the labels of their entry. */
function labelsOf(object: MeshObject): ReadonlyMap<string, string> {
  return object.kind === 'WorkloadEntry' ? endpointLabels(object.meta, object) : object.meta.labels;
}
