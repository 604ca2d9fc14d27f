/**
 * Asks policy again about live connections whenever the state of the mesh changed: policies, but also workloads (a policy
 * newly selecting a pod, another identity). Each connection is judged against the current record of its pod. Changes in
 * quick succession lead to one pass; a pass over many connections is cut into slices so that traffic goes on. A policy that is
 * named but has not arrived cuts only when it stays away.
 */
import { AmbitError } from '../../core/errors.ts';
import type { EventLoop, Timer } from '../../reactor/loop.ts';
import { authorize } from '../route/authorize.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { ConnectionRecord } from './connection-record.ts';
import type { Recorder } from './recorder.ts';
import { isUnknownYet, UNKNOWN_POLICY_WAIT_MS } from './verdict.ts';

/** Delay from a change to its pass: together with the pass well under a second. */
const COALESCE_MS = 100;
const SLICE = 2000;

export class PolicyRecheck {
  readonly #loop: EventLoop;
  readonly #state: MeshState;
  readonly #recorder: Recorder;
  #timer: Timer | undefined;
  /** Since when a policy that a connection depends on has been unknown. */
  readonly #unknownSinceMs = new WeakMap<ConnectionRecord, number>();
  #unknownTimer: Timer | undefined;
  #remaining: ConnectionRecord[] = [];
  #changed = false;
  #cuts = 0;

  constructor(loop: EventLoop, state: MeshState, recorder: Recorder) {
    this.#loop = loop;
    this.#state = state;
    this.#recorder = recorder;
  }

  /** Connections ended because policy no longer allowed them. */
  get cuts(): number {
    return this.#cuts;
  }

  /** The state changed. A pass under way is finished first; then another one begins. */
  schedule(): void {
    this.#changed = true;
    this.#timer ??= this.#loop.setTimer(COALESCE_MS, () => this.#tick());
  }

  close(): void {
    this.#timer?.cancel();
    this.#unknownTimer?.cancel();
  }

  #tick(): void {
    this.#timer = undefined;
    if (this.#remaining.length === 0 && this.#changed) {
      this.#changed = false;
      this.#remaining = this.#recorder.live();
    }
    for (const record of this.#remaining.splice(-SLICE)) this.#judge(record);
    if (this.#remaining.length > 0) this.#timer = this.#loop.setTimer(1, () => this.#tick());
    else if (this.#changed) this.schedule();
  }

  #judge(record: ConnectionRecord): void {
    if (record.ended || record.authorization === undefined) return;
    const local = record.facts.pod.findWorkload();
    // A pod that vanished from the registry is on its way out; enrolment ends its connections.
    if (local === undefined) return;
    const verdict = authorize(this.#state, local, record.authorization);
    if (verdict.kind === 'allow') {
      this.#unknownSinceMs.delete(record);
      return;
    }
    if (isUnknownYet(verdict) && this.#mayStillArrive(record)) return;
    this.#cuts++;
    record.policy = verdict.policy;
    record.owner.cut(new AmbitError('POLICY_CHANGED', verdict.error.message, { cause: verdict.error }));
  }

  /** Leaves the connection alone for now; another pass follows. */
  #mayStillArrive(record: ConnectionRecord): boolean {
    const { nowMs } = this.#loop;
    const sinceMs = this.#unknownSinceMs.get(record) ?? nowMs;
    if (nowMs - sinceMs >= UNKNOWN_POLICY_WAIT_MS) return false;
    this.#unknownSinceMs.set(record, sinceMs);
    this.#unknownTimer ??= this.#loop.setTimer(UNKNOWN_POLICY_WAIT_MS - (nowMs - sinceMs), () => {
      this.#unknownTimer = undefined;
      this.schedule();
    });
    return true;
  }
}
