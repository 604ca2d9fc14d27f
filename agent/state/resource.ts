/**
 * Resources as they travel: encoded protobufs with a name and a version, the way delta xDS, the local configuration and
 * the main thread (towards workers) hand them to a `MeshState`. Plain data, fit for `postMessage`.
 */
export const ADDRESS_TYPE = 'type.googleapis.com/istio.workload.Address';
export const AUTHORIZATION_TYPE = 'type.googleapis.com/istio.security.Authorization';
/** Every type an agent subscribes to, in the order of subscription: policies come before the workloads they are for. */
export const RESOURCE_TYPES: readonly string[] = [AUTHORIZATION_TYPE, ADDRESS_TYPE];

export interface EncodedResource {
  /** The uid of a workload, `<namespace>/<hostname>` of a service, `<namespace>/<name>` of a policy. */
  readonly name: string;
  /** Opaque to the receiver; empty where the source has no versions. */
  readonly version: string;
  /** An encoded `istio.workload.Address` or `istio.security.Authorization`. */
  readonly bytes: Uint8Array;
}

/** One batch of one type. Removals take effect after the updates. */
export interface ResourceUpdate {
  readonly typeUrl: string;
  readonly updated: readonly EncodedResource[];
  readonly removed: readonly string[];
  /** More of what was known when the receiver asked follows: until it is there, no pod of the node may be served. */
  readonly partial?: boolean;
}

/** A resource that was refused. What was known under its name before stays in force. */
export interface ResourceError {
  readonly name: string;
  readonly reason: string;
}

export interface ApplyResult {
  /** True when anything that a decision may depend on is different now. */
  readonly changed: boolean;
  /** Resources taken over; those in `errors` are not among them. */
  readonly accepted: number;
  readonly errors: readonly ResourceError[];
}
