/**
 * Where the agent looks up the labels and the service account of a pod: files in the sandbox, an informer on Kubernetes.
 * Implementations keep an in-memory copy; lookups are synchronous.
 */
import type { Labels } from '../../core/enrolment/label-selector.ts';
import type { IpAddress } from '../../core/ip.ts';

export interface PodFacts {
  readonly namespace: string;
  readonly name: string;
  /** Absent in files that leave it to the runtime. */
  readonly uid: string | undefined;
  /** The UID the runtime knows a static pod by (annotation kubernetes.io/config.mirror); absent for all other pods. */
  readonly staticUid?: string | undefined;
  /** Absent while unscheduled, and in files that leave it open. */
  readonly nodeName: string | undefined;
  readonly serviceAccount: string;
  readonly hostNetwork: boolean;
  readonly labels: Labels;
  /** Those that enrolment reads; see `READ_ANNOTATIONS`. */
  readonly annotations: Labels;
  readonly ips: readonly IpAddress[];
  /** Succeeded or Failed: all containers have ended for good. */
  readonly terminal?: boolean;
  /** Ports kubelet connects to: probes and lifecycle hooks of all containers. */
  readonly probePorts?: readonly number[];
  /** What the agent wrote on the pod, as the API server has it. */
  readonly written?: WrittenStatus;
}

/** The agent's own marks on a pod, as read back. */
export interface WrittenStatus {
  /** Value of annotation ambient.istio.io/redirection. */
  readonly redirection: string | undefined;
  /** `status reason message` of condition ambit.io/Enrolled; undefined when there is none. */
  readonly condition: string | undefined;
}

export interface NamespaceFacts {
  readonly name: string;
  readonly labels: Labels;
}

/** `all`: anything may be different. */
export type DirectoryChange =
  | { readonly kind: 'pod'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'namespace'; readonly name: string }
  | { readonly kind: 'all' };

export interface FetchedFacts {
  readonly pod: PodFacts;
  readonly namespace: NamespaceFacts;
}

export interface PodDirectory {
  findPod(namespace: string, name: string): PodFacts | undefined;
  findNamespace(name: string): NamespaceFacts | undefined;
  /** Every pod of this node. */
  pods(): Iterable<PodFacts>;
  /** True once the first complete reading is in: only then does absence mean anything. */
  readonly synced: boolean;
  /** Calls `listener` after every change; the returned function ends that. */
  onChange(listener: (change: DirectoryChange) => void): () => void;
  /**
   * Asks the origin itself, past the copy, which may lag behind. Undefined when there is no such pod. Rejects when the
   * origin cannot be asked. Absent where the copy is the origin.
   */
  fetch?(namespace: string, name: string): Promise<FetchedFacts | undefined>;
  close(): void;
}

/** May the runtime's UID of a sandbox be this pod? Unknown UIDs on either side are no contradiction. */
export function isSamePod(facts: PodFacts, runtimeUid: string | undefined): boolean {
  if (runtimeUid === undefined || facts.uid === undefined) return true;
  return runtimeUid === facts.uid || runtimeUid === facts.staticUid;
}
