/**
 * Whom a CNI call is about: waits until the pod and its namespace are known, then asks the eligibility function.
 * An excluded namespace is answered at once, without anybody having to know the pod.
 *
 *     known -> verdict       unknown -> wait for the copy -> ask the origin itself -> wait on -> UNKNOWN_WORKLOAD, the runtime repeats
 */
import type { PodReference } from '../../core/enrolment/cni-wire.ts';
import { decideEligibility, type EligibilitySettings } from '../../core/enrolment/eligibility.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { type FetchedFacts, isSamePod, type PodDirectory, type PodFacts } from './pod-directory.ts';

export type Admission =
  | { readonly kind: 'eligible'; readonly pod: PodFacts; readonly detail: string }
  | { readonly kind: 'ineligible'; readonly pod: PodFacts | undefined; readonly detail: string };

export interface AdmissionOptions {
  readonly directory: PodDirectory;
  readonly eligibility: EligibilitySettings;
  /** How long a pod may stay unknown: the runtime is often faster than the directory. */
  readonly waitMs: number;
}

/** The copy of the directory usually catches up within this time; then the origin is asked, once per interval. */
const FETCH_AFTER_MS = 100;
const FETCH_EVERY_MS = 1_000;

/** Rejects with `UNKNOWN_WORKLOAD` when the pod does not become known in time. */
export async function admit(reference: PodReference, options: AdmissionOptions): Promise<Admission> {
  if (options.eligibility.excludedNamespaces.has(reference.namespace)) {
    return { kind: 'ineligible', pod: undefined, detail: `namespace ${reference.namespace} is excluded from the mesh` };
  }
  const { pod, namespace } = await awaitFacts(reference, options);
  const verdict = decideEligibility(pod, namespace.labels, options.eligibility);
  return verdict.kind === 'eligible' ? { ...verdict, pod } : { kind: 'ineligible', pod, detail: verdict.detail };
}

function awaitFacts(reference: PodReference, { directory, waitMs }: AdmissionOptions): Promise<FetchedFacts> {
  const known = findFacts(reference, directory);
  if (typeof known !== 'string') return Promise.resolve(known);
  const { promise, resolve, reject } = Promise.withResolvers<FetchedFacts>();
  let missing = known;
  let settled = false;
  const settle = (act: () => void): void => {
    settled = true;
    clearTimeout(deadline);
    clearTimeout(fetching);
    stopListening();
    act();
  };
  const offer = (facts: FetchedFacts | string): void => {
    if (typeof facts === 'string') missing = facts;
    else settle(() => resolve(facts));
  };
  const stopListening = directory.onChange(() => offer(findFacts(reference, directory)));
  const deadline = setTimeout(
    () => settle(() => reject(new AmbitError('UNKNOWN_WORKLOAD', `${missing} (waited ${waitMs} ms)`))),
    waitMs,
  );
  const ask = async (): Promise<void> => {
    offer(await fetchFacts(reference, directory));
    if (!settled) fetching = setTimeout(ask, FETCH_EVERY_MS);
  };
  let fetching = setTimeout(ask, FETCH_AFTER_MS);
  if (directory.fetch === undefined) clearTimeout(fetching);
  return promise;
}

/** The facts, or what is missing, in words. */
function findFacts(reference: PodReference, directory: PodDirectory): FetchedFacts | string {
  const pod = directory.findPod(reference.namespace, reference.name);
  if (pod === undefined) return unknownPod(reference);
  if (!isSamePod(pod, reference.uid)) return `${nameOf(reference)} is known only with another UID`;
  const namespace = directory.findNamespace(reference.namespace);
  return namespace === undefined ? `namespace ${reference.namespace} is not known here` : { pod, namespace };
}

/** As `findFacts`, from the origin. Never rejects. */
async function fetchFacts(reference: PodReference, directory: PodDirectory): Promise<FetchedFacts | string> {
  try {
    const facts = await directory.fetch?.(reference.namespace, reference.name);
    if (facts === undefined) return unknownPod(reference);
    if (!isSamePod(facts.pod, reference.uid)) return `${nameOf(reference)} exists only with another UID`;
    return facts;
  } catch (thrown) {
    return `${unknownPod(reference)}, and could not be asked for: ${toAmbitError(thrown, 'KUBERNETES_API').message}`;
  }
}

function unknownPod(reference: PodReference): string {
  return `${nameOf(reference)} is not known here`;
}

/** A pod of the same name with another UID is the predecessor of this one. */
function nameOf({ namespace, name }: PodReference): string {
  return `pod ${namespace}/${name}`;
}
