/**
 * What enrolment asks of the data plane: listen in a pod's network namespace, or stop doing so.
 *
 * Enrolment owns the order: listeners first, rules second, so that a captured packet always finds a listener. The
 * data plane keeps its own reference to the namespace; the caller may close `netnsFd` as soon as the promise settles.
 */
import type { IpAddress } from '../../core/ip.ts';

/** A pod whose traffic this agent carries. */
export interface EnrolledPod {
  /** Kubernetes UID, or any text that is unique on the node. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Addresses of the pod, possibly empty when the source of the pod did not know them. */
  readonly ips: readonly IpAddress[];
}

export interface PodCapture {
  /**
   * Resolves when every worker listens on 15001, 15006 and 15008 in the namespace behind `netnsFd`. Adding a pod again
   * with the same namespace is a no-op; with another one the old listeners are closed first.
   * Rejects with an AmbitError (`SYSTEM_CALL`, for example a port that is taken); nothing stays behind then.
   */
  addPod(pod: EnrolledPod, netnsFd: number): Promise<void>;
  /** Closes listeners, tunnels and connections of the pod at once and forgets it. Unknown pods are ignored. */
  removePod(uid: string): Promise<void>;
  /**
   * A pod that leaves the mesh keeps its listeners for those who still come through them, but the shortcut between pods
   * of one node no longer leads to it. False takes that back. Unknown pods are ignored.
   */
  setLeaving(uid: string, leaving: boolean): void;
  /** Connections of the pod that are carried now, in both directions. */
  countConnections(uid: string): Promise<number>;
  /** Asks the workers (not a cached answer): true when each has its three listeners in the pod. */
  isListening(uid: string): Promise<boolean>;
}
