/**
 * The last connections of a worker that ends:
 *
 *     |-- they end by themselves --|-- idle ones are ended in order --|-- what is left is cut
 *     0                            ^ the last part of the grace       ^ deadline
 *
 * Who finds an idle connection ended connects again, to the next agent; who finds it reset may have lost a request. What
 * counts as idle is shorter the nearer the deadline is.
 */
import { AmbitError } from '../../core/errors.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import type { ConnectionRecord } from './connection-record.ts';
import type { Recorder } from './recorder.ts';

/** The last part of the grace period: at most this long, at most half of it. */
const ENDING_MS = 5000;
/** How often connections are looked at, before and in the last part. */
const POLL_MS = 50;
const ENDING_POLL_MS = 5;
/** What was ended in order may take this long beyond the deadline until both sides have agreed. */
const LINGER_MS = 500;
/** An exchange that is answered is idle after a part of the remaining time, and never sooner than this. */
const SHORTEST_QUIET_MS = 20;
const QUIET_PART = 1 / 5;
/** What may wait for an answer, or flows in one direction only, is idle after this. */
const UNANSWERED_QUIET_MS = 1000;

/** Connections that were cut, by uid of their pod. */
export type CutByPod = ReadonlyMap<string, number>;

export interface DrainResult {
  /** Idle connections that were ended in order. */
  readonly ended: number;
  /** Connections that were busy until the deadline. */
  readonly cut: number;
}

/** `answered`: bytes went both ways, the last ones to the client. */
export function isIdle(quietMs: number, answered: boolean, remainingMs: number): boolean {
  if (!answered) return quietMs >= UNANSWERED_QUIET_MS;
  return quietMs >= Math.max(SHORTEST_QUIET_MS, Math.min(UNANSWERED_QUIET_MS, remainingMs * QUIET_PART));
}

/** How far a connection was when it was last looked at. */
interface Progress {
  received: number;
  sent: number;
  sinceMs: number;
  answered: boolean;
}

type OnDrained = (result: DrainResult, cutByPod: CutByPod) => void;

export class Drain {
  readonly #loop: EventLoop;
  readonly #recorder: Recorder;
  readonly #deadlineMs: number;
  readonly #endingFromMs: number;
  readonly #onDone: OnDrained;
  readonly #progress = new WeakMap<ConnectionRecord, Progress>();
  /** Ended in order; both sides may not have agreed yet. */
  readonly #finished = new Set<ConnectionRecord>();

  #cut = 0;

  /** `onDone` is called when no connection is left but those to be cut, `cut` of them. */
  static begin(loop: EventLoop, recorder: Recorder, graceMs: number, onDone: OnDrained): Drain {
    const drain = new Drain(loop, recorder, graceMs, onDone);
    drain.#look();
    return drain;
  }

  /** So far. */
  get result(): DrainResult {
    return { ended: this.#finished.size, cut: this.#cut };
  }

  private constructor(loop: EventLoop, recorder: Recorder, graceMs: number, onDone: OnDrained) {
    this.#loop = loop;
    this.#recorder = recorder;
    this.#deadlineMs = loop.nowMs + graceMs;
    this.#endingFromMs = this.#deadlineMs - Math.min(ENDING_MS, graceMs / 2);
    this.#onDone = onDone;
  }

  #look(): void {
    const { nowMs } = this.#loop;
    const live = this.#recorder.live();
    for (const record of live) this.#attend(record, nowMs);
    const busy = live.filter((record) => !record.ended && !this.#finished.has(record));
    const untilMs = busy.length > 0 ? this.#deadlineMs : this.#deadlineMs + LINGER_MS;
    if (this.#recorder.liveCount > 0 && nowMs < untilMs) {
      this.#loop.setTimer(nowMs >= this.#endingFromMs ? ENDING_POLL_MS : POLL_MS, () => this.#look());
      return;
    }
    this.#cut = busy.length;
    const byPod = new Map<string, number>();
    for (const { facts } of busy) byPod.set(facts.pod.pod.uid, (byPod.get(facts.pod.pod.uid) ?? 0) + 1);
    this.#onDone(this.result, byPod);
  }

  /** In the last part of the time, ends the connection when it is idle. */
  #attend(record: ConnectionRecord, nowMs: number): void {
    if (this.#finished.has(record)) return;
    const { sinceMs, answered } = this.#observe(record, nowMs);
    if (nowMs < this.#endingFromMs || nowMs >= this.#deadlineMs) return;
    if (!isIdle(nowMs - sinceMs, answered, this.#deadlineMs - nowMs)) return;
    if (record.owner.finish(REASON)) this.#finished.add(record);
  }

  #observe(record: ConnectionRecord, nowMs: number): Progress {
    const { received, sent } = record;
    const known = this.#progress.get(record);
    if (known === undefined) {
      const first = { received, sent, sinceMs: nowMs, answered: false };
      this.#progress.set(record, first);
      return first;
    }
    if (received === known.received && sent === known.sent) return known;
    known.answered = received > 0 && sent !== known.sent;
    known.received = received;
    known.sent = sent;
    known.sinceMs = nowMs;
    return known;
  }
}

const REASON = new AmbitError('DRAINED_IDLE', 'the agent stops');
