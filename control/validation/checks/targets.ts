/** AMB0110, AMB0111: policies attached to what does not exist, or to what nothing stands in front of. */
import type { AuthorizationPolicy } from '../../objects/authorization-policy.ts';
import { describeTarget } from '../../policy/targets.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { targetLookup } from '../waypoint-view.ts';
import { keyOf } from './keys.ts';

export function* checkTargets(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  const lookup = targetLookup(view);
  const { namespace } = policy.meta;
  for (const [index, target] of policy.targets.entries()) {
    const at = { object: keyOf(policy), field: `targetRefs[${index}]` };
    const state = lookup(target, namespace);
    const name = describeTarget(target, namespace);
    if (state.kind === 'missing') yield finding('AMB0110', at, `${name} does not exist`);
    if (state.kind === 'unbound') yield finding('AMB0111', at, `${name} ${state.reason}`);
  }
}
