/**
 * Whom a CNI call is about: waits until the pod and its namespace are known, then asks the eligibility function.
 * An excluded namespace is answered at once, without anybody having to know the pod.
 */
import type { PodReference } from '../../core/enrolment/cni-wire.ts';
import { decideEligibility, type EligibilitySettings } from '../../core/enrolment/eligibility.ts';
import { AmbitError } from '../../core/errors.ts';
import type { NamespaceFacts, PodDirectory, PodFacts } from './pod-directory.ts';

export type Admission =
  | { readonly kind: 'eligible'; readonly pod: PodFacts; readonly detail: string }
  | { readonly kind: 'ineligible'; readonly detail: string };

export interface AdmissionOptions {
  readonly directory: PodDirectory;
  readonly eligibility: EligibilitySettings;
  /** How long a pod may stay unknown: the runtime is often faster than the directory. */
  readonly waitMs: number;
}

/** Rejects with `UNKNOWN_WORKLOAD` when the pod does not become known in time. */
export async function admit(reference: PodReference, options: AdmissionOptions): Promise<Admission> {
  if (options.eligibility.excludedNamespaces.has(reference.namespace)) {
    return { kind: 'ineligible', detail: `namespace ${reference.namespace} is excluded from the mesh` };
  }
  const { pod, namespace } = await awaitFacts(reference, options);
  const verdict = decideEligibility(pod, namespace.labels, options.eligibility);
  return verdict.kind === 'eligible' ? { ...verdict, pod } : { kind: 'ineligible', detail: verdict.detail };
}

interface Facts {
  readonly pod: PodFacts;
  readonly namespace: NamespaceFacts;
}

function awaitFacts(reference: PodReference, { directory, waitMs }: AdmissionOptions): Promise<Facts> {
  const known = findFacts(reference, directory);
  if (typeof known !== 'string') return Promise.resolve(known);
  const { promise, resolve, reject } = Promise.withResolvers<Facts>();
  const stopListening = directory.onChange(() => {
    const facts = findFacts(reference, directory);
    if (typeof facts === 'string') return;
    clearTimeout(timer);
    stopListening();
    resolve(facts);
  });
  const timer = setTimeout(() => {
    stopListening();
    const missing = findFacts(reference, directory);
    const detail = typeof missing === 'string' ? missing : 'the pod became known too late';
    reject(new AmbitError('UNKNOWN_WORKLOAD', `${detail} (waited ${waitMs} ms)`));
  }, waitMs);
  return promise;
}

/** The facts, or what is missing, in words. A pod of the same name with another UID is the predecessor of this one. */
function findFacts(reference: PodReference, directory: PodDirectory): Facts | string {
  const pod = directory.findPod(reference.namespace, reference.name);
  if (pod === undefined) return `pod ${reference.namespace}/${reference.name} is not known here`;
  if (reference.uid !== undefined && pod.uid !== undefined && reference.uid !== pod.uid) {
    return `pod ${reference.namespace}/${reference.name} is known only with another UID`;
  }
  const namespace = directory.findNamespace(reference.namespace);
  return namespace === undefined ? `namespace ${reference.namespace} is not known here` : { pod, namespace };
}
