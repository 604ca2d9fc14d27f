/**
 * What has to happen with a pod of this node so that it is in the mesh exactly when it should be. Pure: facts of the API
 * and what the agent holds go in, one step comes out. Whoever asks after every change, with the newest facts, ends in the
 * right state whatever was missed in between, so stale and repeated events do no harm.
 */
import {
  decideEligibility,
  type EligibilitySettings,
  type IneligibleReason,
} from '../../core/enrolment/eligibility.ts';
import { readOverrides, type TrafficOverrides } from '../../core/enrolment/overrides.ts';
import { isSamePod, type NamespaceFacts, type PodFacts } from './pod-directory.ts';

/** What the agent holds under the pod's name. */
export interface HeldPod {
  readonly state: 'enrolling' | 'enrolled' | 'leaving' | 'releasing' | 'broken';
  readonly uid: string;
  readonly overrides: TrafficOverrides | undefined;
}

export type EnrolmentStep =
  | { readonly kind: 'nothing' }
  /** Bring the running pod in, or back in while it is leaving. */
  | { readonly kind: 'enrol'; readonly pod: PodFacts; readonly overrides: TrafficOverrides }
  /** Replace the rules of a pod that is in. */
  | { readonly kind: 'reapply'; readonly pod: PodFacts; readonly overrides: TrafficOverrides }
  /** Let it go without cutting a connection. */
  | { readonly kind: 'leave'; readonly pod: PodFacts; readonly detail: string }
  /** Its containers have ended, or another pod has its name: nothing is left to wait for. */
  | { readonly kind: 'release'; readonly detail: string }
  /** Wanted, but something is missing that a later change brings. */
  | { readonly kind: 'wait'; readonly pod: PodFacts; readonly detail: string }
  /** Not part of the mesh and not held; `surprising` when its labels ask for the mesh. */
  | {
      readonly kind: 'outside';
      readonly pod: PodFacts;
      readonly detail: string;
      readonly surprising?: IneligibleReason;
    };

export interface PlanInput {
  readonly pod: PodFacts | undefined;
  readonly namespace: NamespaceFacts | undefined;
  readonly held: HeldPod | undefined;
  readonly eligibility: EligibilitySettings;
}

const NOTHING: EnrolmentStep = { kind: 'nothing' };
/** Why a pod that asks for the mesh is left out of it; the others are what somebody wanted. */
const SURPRISING: ReadonlySet<IneligibleReason> = new Set(['excludedNamespace', 'hostNetwork', 'sidecar']);

export function planEnrolment({ pod, namespace, held, eligibility }: PlanInput): EnrolmentStep {
  // An object may be deleted (by force) before its sandbox is: the runtime's DEL, or the end of the namespace, lets it go.
  if (pod === undefined) return NOTHING;
  if (held !== undefined && !isSamePod(pod, held.uid)) {
    return { kind: 'release', detail: 'another pod has taken its name' };
  }
  if (pod.terminal === true) {
    if (held !== undefined) return { kind: 'release', detail: 'its containers have ended' };
    return { kind: 'outside', pod, detail: 'its containers have ended' };
  }
  // Labels are unknown: whatever is the case stays so.
  if (namespace === undefined) return NOTHING;
  const verdict = decideEligibility(pod, namespace.labels, eligibility);
  if (verdict.kind === 'ineligible') {
    const { reason, detail } = verdict;
    if (held === undefined) return outside(pod, namespace, reason, detail, eligibility);
    // Broken: not served, its rules stand. Nothing to wait for either.
    if (held.state === 'broken') return { kind: 'release', detail };
    return held.state === 'enrolled' ? { kind: 'leave', pod, detail } : NOTHING;
  }
  const { overrides } = readOverrides(pod.annotations);
  if (held === undefined) {
    if (pod.ips.length === 0) return { kind: 'wait', pod, detail: 'the pod has no address yet' };
    return { kind: 'enrol', pod, overrides };
  }
  if (held.state === 'leaving') return { kind: 'enrol', pod, overrides };
  if (held.state !== 'enrolled' || held.overrides === undefined) return NOTHING;
  return sameOverrides(held.overrides, overrides) ? NOTHING : { kind: 'reapply', pod, overrides };
}

function outside(
  pod: PodFacts,
  namespace: NamespaceFacts,
  reason: IneligibleReason,
  detail: string,
  eligibility: EligibilitySettings,
): EnrolmentStep {
  if (!SURPRISING.has(reason)) return { kind: 'outside', pod, detail };
  const inItself = { ...pod, hostNetwork: false, annotations: {} };
  const asked = decideEligibility(inItself, namespace.labels, { ...eligibility, excludedNamespaces: new Set() });
  return asked.kind === 'eligible'
    ? { kind: 'outside', pod, detail, surprising: reason }
    : { kind: 'outside', pod, detail };
}

function sameOverrides(a: TrafficOverrides, b: TrafficOverrides): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
