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
