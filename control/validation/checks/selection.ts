/** AMB0102, AMB0113, AMB0114, AMB0116: whom a policy is for, and whether it can be in force for them at all. */
import type { AuthorizationPolicy } from '../../objects/authorization-policy.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { keyOf } from './keys.ts';

/** Workloads named in one finding. */
const MAX_NAMED = 3;

export function* checkSelection(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  const object = keyOf(policy);
  if (policy.action === 'DENY' && policy.rules.length === 0) yield finding('AMB0116', { object }, 'has no rules');
  if (policy.dryRun) {
    const message = 'is on trial: the annotation istio.io/dry-run is "true"';
    yield finding('AMB0114', { object, field: 'metadata.annotations' }, message);
  }
  if (policy.targets.length > 0) return;
  const workloads = [...view.workloadsOf(policy)];
  if (!view.knowsWorkloads) return;
  if (workloads.length === 0) {
    if (policy.selector === undefined) return;
    const labels = [...policy.selector].map(([key, value]) => `${key}=${value}`).join(', ');
    yield finding('AMB0102', { object, field: 'selector.matchLabels' }, `no workload has ${labels}`);
    return;
  }
  // A policy for a whole namespace is also for what is not enrolled; only one for chosen pods means those.
  if (policy.selector === undefined || workloads.some((workload) => view.isEnrolled(workload))) return;
  const owners = [...new Set(workloads.map(({ owner }) => owner))];
  const named = owners.slice(0, MAX_NAMED).join(', ') + (owners.length > MAX_NAMED ? ', ...' : '');
  yield finding('AMB0113', { object, field: 'selector' }, `selects only workloads that are not in the mesh (${named})`);
}
