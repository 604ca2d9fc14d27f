/**
 * What became of an object: one condition as it stands in `.status.conditions` of Kubernetes objects. Builders and
 * policy conversion give them; who writes, logs or shows them is not decided here. Pure data.
 */

export interface ObjectCondition {
  /** E.g. `istio.io/WaypointBound`, `ZtunnelAccepted`. At most one of each type per object. */
  readonly type: string;
  readonly status: 'True' | 'False';
  /** One CamelCase word of the closed set of the type. */
  readonly reason: string;
  /** A sentence for the author of the object: what is, and what to do when it is not what they wanted. */
  readonly message: string;
}

/** True when the object is in force as its author wrote it. */
export function isSound({ type, status, reason }: ObjectCondition): boolean {
  switch (type) {
    case 'istio.io/VisibilityApplied':
      return true;
    case 'istio.io/WaypointMissing':
      return status === 'False';
    case 'istio.io/WaypointBound':
      return status === 'True' && reason === 'WaypointAccepted';
    default:
      return status === 'True' && reason === 'Accepted';
  }
}
