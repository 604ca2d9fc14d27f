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
  /** Absent while unscheduled, and in files that leave it open. */
  readonly nodeName: string | undefined;
  readonly serviceAccount: string;
  readonly hostNetwork: boolean;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly ips: readonly IpAddress[];
}

export interface NamespaceFacts {
  readonly name: string;
  readonly labels: Labels;
}

export interface PodDirectory {
  findPod(namespace: string, name: string): PodFacts | undefined;
  findNamespace(name: string): NamespaceFacts | undefined;
  /** Calls `listener` after every change; the returned function ends that. */
  onChange(listener: () => void): () => void;
  close(): void;
}
