/**
 * What the API server should say about a pod's place in the mesh, and the patch that makes it say so. Pure.
 *
 * The annotation is Istio's and decides whether peers tunnel to the pod; the condition tells people the same with the reason.
 * Both go through `pods/status`: less privilege than the pod itself. A pod that is not ours and should not be has neither.
 */
import { ENROLLED_CONDITION, REDIRECTION_ANNOTATION, type Redirection } from '../../core/enrolment/redirection.ts';
import { ERROR_TABLE, isErrorCode, unreachable } from '../../core/errors.ts';
import type { EnrolmentReport } from './observer.ts';
import type { WrittenStatus } from './pod-directory.ts';

export interface PodCondition {
  readonly status: 'True' | 'False';
  /** One word in UpperCamelCase. */
  readonly reason: string;
  readonly message: string;
}

export interface PodStatus {
  readonly redirection: Redirection | undefined;
  readonly condition: PodCondition | undefined;
}

export interface StatusEvent {
  readonly type: 'Normal' | 'Warning';
  readonly action: string;
  readonly note: string;
}

const MAX_MESSAGE = 1_000;

export function statusOf(report: EnrolmentReport): PodStatus {
  switch (report.kind) {
    case 'enrolled':
      return { redirection: 'enabled', condition: enrolledCondition(report.selfTest) };
    case 'pending':
      return { redirection: 'pending', condition: condition('False', 'Pending', pendingText(report)) };
    case 'outside':
      return { redirection: undefined, condition: condition('False', capitalised(report.reason), report.detail) };
    case 'leaving':
    case 'gone':
      return { redirection: undefined, condition: undefined };
    default:
      return unreachable(report);
  }
}

function enrolledCondition(selfTest: string): PodCondition {
  const captured = 'The traffic of the pod is captured';
  if (selfTest === '') return condition('True', 'Enrolled', `${captured}.`);
  if (selfTest === 'passed') return condition('True', 'Enrolled', `${captured}; a connection from inside proved it.`);
  if (selfTest === 'running') return condition('True', 'Enrolled', `${captured}; the proof is under way.`);
  return condition(
    'False',
    'NotRedirected',
    `Rules stand in the pod, but ${selfTest}: its traffic may go around the mesh.`,
  );
}

/** What people should hear of right away; undefined for what the condition says well enough. */
export function eventOf(report: EnrolmentReport): StatusEvent | undefined {
  switch (report.kind) {
    case 'enrolled':
      if (report.selfTest === 'running') return undefined;
      if (report.selfTest !== '' && report.selfTest !== 'passed') {
        return { type: 'Warning', action: 'SelfTest', note: statusOf(report).condition?.message ?? '' };
      }
      return { type: 'Normal', action: 'Enrol', note: 'the traffic of this pod is captured' };
    case 'pending':
      return { type: 'Warning', action: 'Enrol', note: pendingText(report) };
    case 'outside':
      return { type: 'Warning', action: 'Enrol', note: `this pod is not enrolled: ${report.detail}` };
    case 'leaving':
      return { type: 'Normal', action: 'Leave', note: `this pod leaves the mesh: ${report.detail}` };
    case 'gone':
      return undefined;
    default:
      return unreachable(report);
  }
}

/** What is there already? Compared without times. */
export function isWritten({ redirection, condition: wanted }: PodStatus, written: WrittenStatus): boolean {
  const text = wanted === undefined ? undefined : `${wanted.status} ${wanted.reason} ${wanted.message}`;
  return written.redirection === redirection && written.condition === text;
}

/** Does it say that the pod is captured, proved or not? */
export function isCaptured(written: WrittenStatus): boolean {
  return written.redirection === 'enabled' && written.condition?.startsWith('True ') === true;
}

/**
 * The strategic merge patch of `pods/status`: the condition is merged by its type, so those of kubelet stay. The UID is a
 * precondition: a pod of the same name that came later is not touched (409).
 */
export function statusPatch(uid: string, { redirection, condition: wanted }: PodStatus, now: Date): object {
  const entry =
    wanted === undefined
      ? { $patch: 'delete', type: ENROLLED_CONDITION }
      : { type: ENROLLED_CONDITION, ...wanted, lastTransitionTime: now.toISOString().replace(/\.[0-9]+Z$/, 'Z') };
  return {
    metadata: { uid, annotations: { [REDIRECTION_ANNOTATION]: redirection ?? null } },
    status: { conditions: [entry] },
  };
}

function pendingText({ code, detail }: { readonly code: string; readonly detail: string }): string {
  const hint = isErrorCode(code) ? ` ${ERROR_TABLE[code].hint}` : '';
  return `Not captured yet, tried again until it succeeds: ${detail}.${hint} (${code})`;
}

function condition(status: PodCondition['status'], reason: string, message: string): PodCondition {
  return { status, reason, message: message.slice(0, MAX_MESSAGE) };
}

function capitalised(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
