/** Finding the stale workloads of a scope, a bounded number per step. The object store may change between steps. */
import type { ObjectStore } from '../model/object-store.ts';
import type { ObjectMeta } from '../objects/metadata.ts';
import { type Backlog, EVERYWHERE, type Sweep } from './backlog.ts';
import { endpointLabels } from './workload-entry.ts';

const WORKLOADS_PER_STEP = 64;
/** In workloads built. */
export const COST_OF_LOOK = 0.2;

/** Notes pods and WorkloadEntries that are stale, and with a whole scope also endpoints of ServiceEntries. Gives costs. */
export function* sweepWorkloads(sweep: Sweep, store: ObjectStore, backlog: Backlog): Generator<number, void, void> {
  const { scope, selectors, tests } = sweep;
  const everywhere = scope === EVERYWHERE;
  const selected = (meta: ObjectMeta, labels = meta.labels): boolean => {
    if (tests !== undefined) return tests.some((test) => test(meta));
    return selectors === undefined || selectors.matching(scope, labels).length > 0;
  };
  let looked = 0;
  for (const pod of everywhere ? store.all('Pod') : store.inNamespace('Pod', scope)) {
    if (selected(pod.meta)) backlog.addStale(pod);
    if (++looked % WORKLOADS_PER_STEP === 0) yield WORKLOADS_PER_STEP * COST_OF_LOOK;
  }
  for (const entry of everywhere ? store.all('WorkloadEntry') : store.inNamespace('WorkloadEntry', scope)) {
    if (selected(entry.meta, endpointLabels(entry.meta, entry))) {
      backlog.staleWorkloads.add(`WorkloadEntry/${entry.meta.namespace}/${entry.meta.name}`);
    }
    if (++looked % WORKLOADS_PER_STEP === 0) yield WORKLOADS_PER_STEP * COST_OF_LOOK;
  }
  // Endpoints of ServiceEntries carry the policies that select the labels of their entry.
  for (const entry of everywhere ? store.all('ServiceEntry') : store.inNamespace('ServiceEntry', scope)) {
    if (selected(entry.meta)) {
      backlog.staleWorkloads.add(`ServiceEntry/${entry.meta.namespace}/${entry.meta.name}`);
    }
    if (++looked % WORKLOADS_PER_STEP === 0) yield WORKLOADS_PER_STEP * COST_OF_LOOK;
  }
  yield (looked % WORKLOADS_PER_STEP) * COST_OF_LOOK;
}
