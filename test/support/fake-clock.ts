/** Time that passes only when a test says so. */
import type { Clock } from '../../agent/state/clock.ts';

interface Task {
  readonly atMs: number;
  readonly run: () => void;
}

export class FakeClock implements Clock {
  #nowMs: number;
  #tasks: Task[] = [];

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const task = { atMs: this.#nowMs + Math.max(delayMs, 0), run };
    this.#tasks.push(task);
    return () => {
      this.#tasks = this.#tasks.filter((other) => other !== task);
    };
  }

  get pending(): number {
    return this.#tasks.length;
  }

  /** Lets time pass, running what falls due in order, each followed by whatever promises it settles. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      const [next] = this.#tasks.filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#tasks = this.#tasks.filter((other) => other !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
      await settle();
    }
    this.#nowMs = endMs;
  }
}

/** Lets every promise that can settle without time or I/O do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
