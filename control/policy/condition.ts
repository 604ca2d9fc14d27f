/**
 * What became of a policy: which enforcement point takes it and what it leaves out. Names and reasons are those of
 * Istio's status conditions; the file source has no status to write, so they are logged and shown on the status port.
 */
export interface PolicyCondition {
  readonly type: 'ZtunnelAccepted';
  readonly status: 'True' | 'False';
  readonly reason: 'Accepted' | 'PartiallyInvalid' | 'UnsupportedValue' | 'WaypointOnly' | 'Ignored';
  /** A sentence for the author of the policy. */
  readonly message: string;
}

export function accepted(): PolicyCondition {
  return { type: 'ZtunnelAccepted', status: 'True', reason: 'Accepted', message: 'Enforced by the agents.' };
}

export function refused(reason: 'UnsupportedValue' | 'WaypointOnly' | 'Ignored', message: string): PolicyCondition {
  return { type: 'ZtunnelAccepted', status: 'False', reason, message };
}

export function partly(message: string): PolicyCondition {
  return { type: 'ZtunnelAccepted', status: 'True', reason: 'PartiallyInvalid', message };
}
