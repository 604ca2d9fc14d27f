/**
 * Policies attached by targetRefs: enforced by waypoints and gateways, never sent to agents. Which of them enforces a
 * policy, or why none does, is told in its condition. Pure; what is known of a target comes in as a function.
 */
import type { AuthorizationPolicy, PolicyTarget } from '../objects/authorization-policy.ts';
import { accepted, type PolicyCondition, partly, refused } from './condition.ts';

export type TargetState =
  /** Nobody has looked. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'missing' }
  /** It exists, but nothing in front of it can enforce the policy; `reason` is the end of a sentence. */
  | { readonly kind: 'unbound'; readonly reason: string }
  /** `by`: the waypoint or gateway that every connection to it passes, `namespace/name`. */
  | { readonly kind: 'bound'; readonly by: string };

/** @param namespace where the target is: that of the policy */
export type TargetLookup = (target: PolicyTarget, namespace: string) => TargetState;

/** `Service shop/stock`. */
export function describeTarget(target: PolicyTarget, namespace: string): string {
  return target.kind === 'GatewayClass' ? `GatewayClass ${target.name}` : `${target.kind} ${namespace}/${target.name}`;
}

export function describeTargets(policy: AuthorizationPolicy, lookup: TargetLookup): PolicyCondition {
  const { namespace } = policy.meta;
  const bound: string[] = [];
  const failed: string[] = [];
  let missing = 0;
  for (const target of policy.targets) {
    const name = describeTarget(target, namespace);
    const state = lookup(target, namespace);
    switch (state.kind) {
      case 'bound':
        bound.push(`${state.by} for ${name}`);
        break;
      case 'missing':
        missing++;
        failed.push(`${name} does not exist`);
        break;
      case 'unbound':
        failed.push(`${name} ${state.reason}`);
        break;
      case 'unknown':
        failed.push(`no waypoint is known that serves ${name}`);
        break;
    }
  }
  if (failed.length === 0) {
    return accepted(`Enforced by ${bound.join(', ')}; agents do not see it.`, 'WaypointAccepted');
  }
  const lacking = `Not enforced: ${failed.join('; ')}.`;
  if (bound.length > 0) return partly(`Enforced by ${bound.join(', ')}. ${lacking}`, 'WaypointAccepted');
  return refused(missing > 0 ? 'TargetNotFound' : 'AncestorNotBound', lacking, 'WaypointAccepted');
}
