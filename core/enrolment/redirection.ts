/**
 * The marks the node agent leaves on a pod in the API server. The annotation is Istio's and a fact of the wire: a control
 * plane tells peers to tunnel to a pod only when it says `enabled`. The condition and the event say the same to people.
 */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';
/** `enabled`: captured and served. `pending`: wanted, and not captured yet. Absent: not part of the mesh. */
export type Redirection = 'enabled' | 'pending';

/** Type of the condition in `status.conditions` of a pod. */
export const ENROLLED_CONDITION = 'ambit.io/Enrolled';
/** Reason of the events about a pod's enrolment. */
export const ENROLMENT_EVENT = 'AmbitEnrolment';
