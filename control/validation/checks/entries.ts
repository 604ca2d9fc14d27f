/** AMB0401, AMB0406, AMB0407, AMB0408: ServiceEntries and WorkloadEntries that nobody can reach. */
import { endpointLabels } from '../../discovery/workload-entry.ts';
import { selects } from '../../objects/metadata.ts';
import type { ServiceEntry } from '../../objects/service-entry.ts';
import type { WorkloadEntry } from '../../objects/workload-entry.ts';
import type { Check } from '../check.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { keyOf } from './keys.ts';

const ALLOCATE_LABEL = 'networking.istio.io/enable-autoallocate-ip';

function* checkAddresses(entry: ServiceEntry): Iterable<Finding> {
  if (entry.addresses.length > 0 || entry.allocated.length > 0) return;
  const at = { object: keyOf(entry), field: 'spec.addresses' };
  if (entry.meta.labels.get(ALLOCATE_LABEL) === 'false') {
    yield finding('AMB0406', at, `is empty, and the label ${ALLOCATE_LABEL}=false asks for no address`);
  } else if (entry.resolution === 'NONE') {
    yield finding('AMB0406', at, 'is empty with resolution NONE');
  } else if (entry.resolution !== 'DYNAMIC_DNS' && entry.hosts.some((host) => host.startsWith('*'))) {
    yield finding('AMB0406', at, 'is empty, and hosts with a wildcard are given none');
  }
}

function* checkEndpoints(entry: ServiceEntry, view: AnalysisView): Iterable<Finding> {
  const object = keyOf(entry);
  const { selector } = entry;
  if (selector === undefined) {
    if (entry.resolution !== 'STATIC' || entry.endpoints.length > 0) return;
    yield finding('AMB0407', { object, field: 'spec.endpoints' }, 'is empty with resolution STATIC');
    return;
  }
  const { namespace } = entry.meta;
  const entries = view.objects.inNamespace('WorkloadEntry', namespace);
  if (view.workloadsIn(namespace).some(({ labels }) => selects(selector, labels))) return;
  for (const candidate of entries) if (selects(selector, endpointLabels(candidate.meta, candidate))) return;
  if (!view.knowsWorkloads && !view.knows('WorkloadEntry')) return;
  const labels = [...selector].map(([key, value]) => `${key}=${value}`).join(', ');
  const at = { object, field: 'spec.workloadSelector.labels' };
  yield finding('AMB0401', at, `no pod or WorkloadEntry of namespace ${namespace} has ${labels}`);
}

function* checkWorkloadEntry(entry: WorkloadEntry, view: AnalysisView): Iterable<Finding> {
  if (!view.knows('ServiceEntry')) return;
  const { namespace } = entry.meta;
  const labels = endpointLabels(entry.meta, entry);
  for (const { selector } of view.objects.inNamespace('ServiceEntry', namespace)) {
    if (selector !== undefined && selects(selector, labels)) return;
  }
  for (const { selector } of view.objects.inNamespace('Service', namespace)) {
    if (selector.size > 0 && selects(selector, labels)) return;
  }
  const message = `no ServiceEntry or Service of namespace ${namespace} selects it`;
  yield finding('AMB0408', { object: keyOf(entry), field: 'spec.labels' }, message);
}

export const SERVICE_ENTRY_CHECKS: readonly Check<'ServiceEntry'>[] = [checkAddresses, checkEndpoints];
export const WORKLOAD_ENTRY_CHECKS: readonly Check<'WorkloadEntry'>[] = [checkWorkloadEntry];
