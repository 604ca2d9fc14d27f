/** AMB0107, AMB0108, AMB0109: what only an L7 proxy could enforce, in a policy that no L7 proxy sees. */
import { DATAPLANE_MODE_LABEL } from '../../../core/enrolment/eligibility.ts';
import type { AuthorizationPolicy } from '../../objects/authorization-policy.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { bindingOf } from '../waypoint-view.ts';
import { keyOf } from './keys.ts';

export function* checkL7(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  if (policy.targets.length > 0 || policy.standsInFor !== undefined) return;
  const reach = reachOf(policy, view);
  if (reach === 'others') return;
  const object = keyOf(policy);
  const trial = policy.dryRun || reach === 'nobody' ? ({ severity: 'warning' } as const) : {};
  if (policy.action === 'AUDIT' || policy.action === 'CUSTOM') {
    const message = `is ${policy.action}, which agents do not enforce`;
    yield finding('AMB0109', { object, field: 'action' }, message, trial);
    return;
  }
  const lack = describeLack(policy, view);
  for (const rule of policy.rules) {
    for (const { l7, field } of rule.clauses.flat()) {
      if (l7.length === 0) continue;
      const isCondition = field.includes('.when[');
      const at = { object, field: isCondition ? `${field}.key` : `${field}.${l7.join(', ')}` };
      const message = `${isCondition ? `(${l7.join(', ')}) ` : ''}needs an L7 proxy, but ${lack}`;
      yield policy.action === 'DENY'
        ? finding('AMB0108', at, message, trial)
        : finding('AMB0107', at, message, { ...trial, effect: effectOnAllow(policy) });
      break;
    }
  }
}

/**
 * Whom the policy meets. `others`: only pods of gateways and of sidecar meshes, whose own proxies take it. `nobody`: there
 * is no such pod yet, and the namespace is not one of the mesh. What is not known counts as the mesh.
 */
function reachOf(policy: AuthorizationPolicy, view: AnalysisView): 'agents' | 'others' | 'nobody' {
  let any = false;
  for (const workload of view.workloadsOf(policy)) {
    if (view.isEnrolled(workload)) return 'agents';
    any = true;
  }
  if (!view.knowsWorkloads) return 'agents';
  if (any) return 'others';
  const namespace = view.objects.find('Namespace', '', policy.meta.namespace);
  const isOfMesh = namespace === undefined || namespace.meta.labels.get(DATAPLANE_MODE_LABEL) === 'ambient';
  return isOfMesh ? 'agents' : 'nobody';
}

function effectOnAllow({ rules }: AuthorizationPolicy): string {
  const usable = rules.filter(({ clauses }) => clauses.flat().every(({ l7 }) => l7.length === 0)).length;
  return usable === 0 ? 'at L4 this ALLOW would deny everything' : 'at L4 this rule would allow nothing';
}

/** Why no L7 proxy sees the policy, in terms of the service a user thinks of. */
function describeLack(policy: AuthorizationPolicy, view: AnalysisView): string {
  const [first] = policy.selector === undefined ? [] : view.workloadsOf(policy);
  if (first === undefined) return 'only policies with targetRefs reach one';
  for (const { meta } of view.servicesOf(first)) {
    const name = `${meta.namespace}/${meta.name}`;
    const { waypoint } = bindingOf(meta, 'service', view);
    if (waypoint === undefined) return `${name} has no waypoint`;
    return `the waypoint of ${name} (${waypoint.namespace}/${waypoint.name}) sees only policies with targetRefs`;
  }
  return `${first.owner.split('/').slice(1).join('/')} has no waypoint`;
}
