/**
 * What became of a policy: which enforcement point takes it and what it leaves out. Types and reasons are those of
 * Istio's status conditions, so that its tools read them: agents are `ZtunnelAccepted`, waypoints `WaypointAccepted`.
 */
import type { ObjectCondition } from '../discovery/condition.ts';

export interface PolicyCondition extends ObjectCondition {
  readonly type: 'ZtunnelAccepted' | 'WaypointAccepted';
  readonly reason:
    | 'Accepted'
    /** Enforced, but more strictly than it is written. */
    | 'PartiallyInvalid'
    /** Nothing of it can be enforced as it is written. */
    | 'UnsupportedValue'
    /** The object cannot be read, or has no effect where it stands. */
    | 'Invalid'
    | 'TargetNotFound'
    /** The target exists, but no waypoint serves it. */
    | 'AncestorNotBound';
}

type Type = PolicyCondition['type'];

/** Enforced as written; `message` says by whom. */
export function accepted(message: string, type: Type = 'ZtunnelAccepted'): PolicyCondition {
  return { type, status: 'True', reason: 'Accepted', message };
}

export function refused(
  reason: Exclude<PolicyCondition['reason'], 'Accepted' | 'PartiallyInvalid'>,
  message: string,
  type: Type = 'ZtunnelAccepted',
): PolicyCondition {
  return { type, status: 'False', reason, message };
}

export function partly(message: string, type: Type = 'ZtunnelAccepted'): PolicyCondition {
  return { type, status: 'True', reason: 'PartiallyInvalid', message };
}
