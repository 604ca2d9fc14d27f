/**
 * The answer of policy about a connection that was just registered. A workload may be announced a moment before a policy
 * it names (they come in two streams of resources): until the policy has arrived, for a short time, the connection waits.
 * With the verdict, and once per connection, dry-run policies are reported.
 */
import { AmbitError } from '../../core/errors.ts';
import { authorize, type Verdict } from '../route/authorize.ts';
import type { ConnectionRecord } from './connection-record.ts';
import { RESOURCES_KEY, type Wait, type Waiting } from './wait-queue.ts';
import type { WorkerContext } from './worker-context.ts';

/** How long a policy that is named but unknown is waited for, by new and by live connections. */
export const UNKNOWN_POLICY_WAIT_MS = 500;

/** One of the two is called, once, unless the wait is cancelled. */
export interface VerdictHandler {
  onAllowed(): void;
  onDenied(error: AmbitError): void;
}

/** Asks policy about a record whose `authorization` is set. Returns the wait when there is no answer yet. */
export function awaitVerdict(
  worker: WorkerContext,
  record: ConnectionRecord,
  handler: VerdictHandler,
): Wait | undefined {
  const verdict = judge(worker, record);
  if (isUnknownYet(verdict)) return new UnknownPolicy(worker, record, handler, verdict.error);
  tell(worker, record, verdict, handler);
  return undefined;
}

/** True for a denial that may pass by itself. */
export function isUnknownYet(verdict: Verdict): verdict is Verdict & { readonly kind: 'deny' } {
  return verdict.kind === 'deny' && verdict.error.code === 'POLICY_UNKNOWN';
}

function judge(worker: WorkerContext, record: ConnectionRecord): Verdict {
  const local = record.facts.pod.findWorkload();
  if (local === undefined || record.authorization === undefined) {
    return { kind: 'deny', error: new AmbitError('UNKNOWN_WORKLOAD', 'the pod is not announced'), policy: undefined };
  }
  const verdict = authorize(worker.state, local, record.authorization);
  record.policy = verdict.policy;
  return verdict;
}

function tell(worker: WorkerContext, record: ConnectionRecord, verdict: Verdict, handler: VerdictHandler): void {
  reportDryRuns(worker, record);
  if (verdict.kind === 'allow') handler.onAllowed();
  else handler.onDenied(verdict.error);
}

function reportDryRuns(worker: WorkerContext, record: ConnectionRecord): void {
  if (!worker.state.hasDryRunPolicies || record.authorization === undefined) return;
  const local = record.facts.pod.findWorkload();
  if (local !== undefined) worker.dryRuns.report(local, record.authorization, record.facts);
}

class UnknownPolicy implements Wait, Waiting {
  readonly #worker: WorkerContext;
  readonly #record: ConnectionRecord;
  readonly #handler: VerdictHandler;
  readonly #deadlineMs: number;
  #error: AmbitError;
  #wait: Wait | undefined;
  #cancelled = false;

  constructor(worker: WorkerContext, record: ConnectionRecord, handler: VerdictHandler, error: AmbitError) {
    this.#worker = worker;
    this.#record = record;
    this.#handler = handler;
    this.#error = error;
    this.#deadlineMs = worker.loop.nowMs + UNKNOWN_POLICY_WAIT_MS;
    this.#waitOn();
  }

  cancel(): void {
    this.#cancelled = true;
    this.#wait?.cancel();
  }

  onAwaited(): void {
    if (this.#cancelled) return;
    const verdict = judge(this.#worker, this.#record);
    if (isUnknownYet(verdict)) {
      this.#error = verdict.error;
      this.#waitOn();
    } else tell(this.#worker, this.#record, verdict, this.#handler);
  }

  onGivenUp(): void {
    if (this.#cancelled) return;
    const verdict: Verdict = { kind: 'deny', error: this.#error, policy: this.#record.policy };
    tell(this.#worker, this.#record, verdict, this.#handler);
  }

  #waitOn(): void {
    this.#wait = this.#worker.waits.add(RESOURCES_KEY, this, this.#deadlineMs);
  }
}
