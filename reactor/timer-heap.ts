/**
 * Timers of one loop: a binary heap by deadline in which every timer knows its place, so that cancelling takes it out at
 * once (O(log n)) and a million cancelled time limits leave nothing behind.
 */
export interface Timer {
  /** The handler will not run. Idempotent, also after it has run. */
  cancel(): void;
}

class HeapTimer implements Timer {
  readonly deadlineMs: number;
  readonly handler: () => void;
  /** Place in the heap; -1 when not in it. */
  index = -1;
  readonly #heap: TimerHeap;

  constructor(heap: TimerHeap, deadlineMs: number, handler: () => void) {
    this.#heap = heap;
    this.deadlineMs = deadlineMs;
    this.handler = handler;
  }

  cancel(): void {
    if (this.index >= 0) this.#heap.remove(this);
  }
}

export class TimerHeap {
  readonly #timers: HeapTimer[] = [];

  get size(): number {
    return this.#timers.length;
  }

  /** Deadline of the earliest timer, `Infinity` when there is none. */
  get nextDeadlineMs(): number {
    return this.#timers[0]?.deadlineMs ?? Number.POSITIVE_INFINITY;
  }

  add(deadlineMs: number, handler: () => void): Timer {
    const timer = new HeapTimer(this, deadlineMs, handler);
    this.#timers.push(timer);
    timer.index = this.#timers.length - 1;
    this.#rise(timer);
    return timer;
  }

  /** Takes out the earliest timer if it is due at `nowMs` and returns its handler. */
  takeDue(nowMs: number): (() => void) | undefined {
    const first = this.#timers[0];
    if (first === undefined || first.deadlineMs > nowMs) return undefined;
    this.remove(first);
    return first.handler;
  }

  remove(timer: HeapTimer): void {
    const last = this.#timers.pop();
    if (last === undefined) return;
    if (last !== timer) {
      this.#timers[timer.index] = last;
      last.index = timer.index;
      this.#rise(last);
      this.#sink(last);
    }
    timer.index = -1;
  }

  clear(): void {
    for (const timer of this.#timers) timer.index = -1;
    this.#timers.length = 0;
  }

  #rise(timer: HeapTimer): void {
    while (timer.index > 0) {
      const parent = this.#timers[(timer.index - 1) >> 1];
      if (parent === undefined || parent.deadlineMs <= timer.deadlineMs) return;
      this.#swap(timer, parent);
    }
  }

  #sink(timer: HeapTimer): void {
    for (;;) {
      const left = this.#timers[timer.index * 2 + 1];
      const right = this.#timers[timer.index * 2 + 2];
      if (left === undefined) return;
      const child = right !== undefined && right.deadlineMs < left.deadlineMs ? right : left;
      if (child.deadlineMs >= timer.deadlineMs) return;
      this.#swap(timer, child);
    }
  }

  #swap(a: HeapTimer, b: HeapTimer): void {
    const index = a.index;
    a.index = b.index;
    b.index = index;
    this.#timers[a.index] = a;
    this.#timers[b.index] = b;
  }
}
