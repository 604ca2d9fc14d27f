/**
 * What enrolment hands to the data plane: the pod with everything a connection needs to know about its local end, and
 * the interface through which listeners appear and vanish. Implemented by agent/dataplane.
 */
import type { IpAddress } from '../../core/ip.ts';

export interface EnrolledPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly node: string;
  /** At least one; canonical. */
  readonly ips: readonly IpAddress[];
}

export interface PodCapture {
  /** Resolves when every worker listens in the namespace; rejects with AmbitError, and then nothing listens. The callee duplicates `netnsFd` if it keeps it. */
  addPod(pod: EnrolledPod, netnsFd: number): Promise<void>;
  /** Closes listeners and ends connections of the pod; resolves also when the pod is unknown. */
  removePod(uid: string): Promise<void>;
  /** True when every worker has all listeners of the pod open. */
  isListening(uid: string): Promise<boolean>;
}
