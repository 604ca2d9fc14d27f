/**
 * Connections that wait, for a bounded time, for something the main thread will announce: a pod's workload or an
 * identity's certificate. Bounded in number too: beyond it a connection is refused at once.
 */
import type { SpiffeId } from '../../core/spiffe.ts';
import type { EventLoop, Timer } from '../../reactor/loop.ts';

/** For the announcement of a pod, by `EnrolledPod.uid`. */
export function workloadKey(podUid: string): string {
  return `workload ${podUid}`;
}

/** For a certificate. */
export function identityKey(identity: SpiffeId): string {
  return `identity ${identity}`;
}

/** For any change of the resources of the mesh. */
export const RESOURCES_KEY = 'resources';

/** What connections that wait for the same thing get of the room: one pod must not take it from all others. */
const SHARE_OF_ONE_KEY = 0.25;

export interface Waiting {
  /** What it waits for has happened (or something near it): look again. */
  onAwaited(): void;
  /** The time is over, or there is no room to wait. */
  onGivenUp(): void;
}

export interface Wait {
  /** Stop waiting; no callback follows. */
  cancel(): void;
}

export class WaitQueue {
  readonly #loop: EventLoop;
  readonly #waitMs: number;
  readonly #capacity: number;
  readonly #waiting = new Map<string, Set<Entry>>();
  #size = 0;

  constructor(loop: EventLoop, waitMs: number, capacity: number) {
    this.#loop = loop;
    this.#waitMs = waitMs;
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#size;
  }

  /** `deadlineMs` (of the loop's clock) continues an earlier wait. Undefined: no room, `onGivenUp` was called. */
  add(key: string, waiting: Waiting, deadlineMs = this.#loop.nowMs + this.#waitMs): Wait | undefined {
    const isCrowded = (this.#waiting.get(key)?.size ?? 0) >= this.#capacity * SHARE_OF_ONE_KEY;
    if (isCrowded || this.#size >= this.#capacity || deadlineMs <= this.#loop.nowMs) {
      waiting.onGivenUp();
      return undefined;
    }
    const entry: Entry = {
      waiting,
      timer: this.#loop.setTimer(deadlineMs - this.#loop.nowMs, () => {
        this.#remove(key, entry);
        waiting.onGivenUp();
      }),
      cancel: () => this.#remove(key, entry),
    };
    let entries = this.#waiting.get(key);
    if (entries === undefined) {
      entries = new Set();
      this.#waiting.set(key, entries);
    }
    entries.add(entry);
    this.#size++;
    return entry;
  }

  /** Wakes everybody who waits for `key`. */
  wake(key: string): void {
    const entries = this.#waiting.get(key);
    if (entries === undefined) return;
    for (const entry of [...entries]) {
      this.#remove(key, entry);
      entry.waiting.onAwaited();
    }
  }

  wakeAll(): void {
    for (const key of [...this.#waiting.keys()]) this.wake(key);
  }

  #remove(key: string, entry: Entry): void {
    const entries = this.#waiting.get(key);
    if (entries === undefined || !entries.delete(entry)) return;
    entry.timer.cancel();
    this.#size--;
    if (entries.size === 0) this.#waiting.delete(key);
  }
}

interface Entry extends Wait {
  readonly waiting: Waiting;
  readonly timer: Timer;
}
