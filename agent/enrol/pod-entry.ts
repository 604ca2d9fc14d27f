/**
 * The states of a pod the agent holds or is about to hold, and how the admin pages show them.
 *
 *     absent -> enrolling -> enrolled <-> leaving -> releasing -> absent
 *                  |            |                       ^
 *                  v            +-----------------------+
 *               absent      broken ---------------------+--> enrolling
 *
 * `leaving` is a pod whose new connections are plain while those that stand are still carried.
 * `broken` is a pod of a former run that could not be taken up again: its rules stand, so it fails closed.
 */
import type { AmbitError } from '../../core/errors.ts';
import type { EnrolledPod } from '../dataplane/pod-capture.ts';
import type { HeldPod } from './enrolment-plan.ts';
import type { CapturedPod } from './pod-steps.ts';
import type { StoredPod } from './stored-pod.ts';

export type PodEntry =
  | { readonly state: 'enrolling'; readonly pod: EnrolledPod }
  | {
      readonly state: 'enrolled' | 'leaving' | 'releasing';
      readonly pod: EnrolledPod;
      readonly stored: StoredPod;
      readonly captured: CapturedPod;
    }
  | { readonly state: 'broken'; readonly pod: EnrolledPod; readonly stored: StoredPod; readonly error: AmbitError };

export interface PodView {
  readonly state: PodEntry['state'];
  readonly pod: EnrolledPod;
  readonly netnsPath: string | undefined;
  /** RFC 3339. */
  readonly enrolledAt: string | undefined;
  /** Why a broken pod is broken, or what the last sweep found, for the operator. */
  readonly problem: string | undefined;
}

export function enrolledEntry(captured: CapturedPod, state: 'enrolled' | 'leaving' = 'enrolled'): PodEntry {
  const { stored } = captured;
  return { state, pod: stored.pod, stored, captured };
}

/** Pods are keyed by namespace and name: one sandbox of a pod exists at a time. */
export function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

export function heldPodOf(entry: PodEntry): HeldPod {
  return { state: entry.state, uid: entry.pod.uid, overrides: storedOf(entry)?.overrides };
}

/** What is on disk about the pod; undefined before it is enrolled. */
export function storedOf(entry: PodEntry | undefined): StoredPod | undefined {
  return entry === undefined || entry.state === 'enrolling' ? undefined : entry.stored;
}

/** `finding`: what the last sweep noticed about the pod. */
export function viewOf(entry: PodEntry, finding?: string): PodView {
  const stored = storedOf(entry);
  return {
    state: entry.state,
    pod: entry.pod,
    netnsPath: stored?.netns.path,
    enrolledAt: stored?.enrolledAt,
    problem: entry.state === 'broken' ? entry.error.message : finding,
  };
}
