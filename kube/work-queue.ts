/**
 * Work by key: whatever happens to a key while its work runs leads to one more run, never to two at once. Failed work is
 * tried again with exponential back-off for as long as the queue lives; keys that keep failing are told, so that nothing
 * stays undone in silence. Memory is bounded by the number of distinct keys.
 */
import { Backoff } from '../core/backoff.ts';
import { type AmbitError, toAmbitError } from '../core/errors.ts';

export const WORK_QUEUE_TIMES = { firstBackoffMs: 5, maxBackoffMs: 5_000 } as const;

export interface WorkQueueOptions<K extends string> {
  /** Reads the present state of what the key names and acts on it. Rejects to be tried again. */
  run(key: K, signal: AbortSignal): Promise<void>;
  /** Keys that are worked on at once; default 1. */
  readonly concurrency?: number;
  /** Called after each failure; `attempts` counts failures in a row. Default: nothing, see `failing`. */
  onFailing?(key: K, error: AmbitError, attempts: number): void;
  readonly firstBackoffMs?: number;
  readonly maxBackoffMs?: number;
  /** Uniform in [0, 1); replaced in tests. */
  readonly random?: () => number;
}

export interface FailingKey<K extends string> {
  readonly key: K;
  readonly attempts: number;
  readonly reason: string;
}

interface Failure {
  readonly backoff: Backoff;
  attempts: number;
  reason: string;
}

export class WorkQueue<K extends string = string> {
  readonly #options: WorkQueueOptions<K>;
  readonly #concurrency: number;
  /** In the order in which they run. */
  readonly #ready = new Set<K>();
  readonly #running = new Map<K, Promise<void>>();
  /** Asked for again while they run. */
  readonly #again = new Set<K>();
  readonly #timers = new Map<K, { readonly timer: NodeJS.Timeout; readonly dueMs: number }>();
  readonly #failures = new Map<K, Failure>();
  readonly #stop = new AbortController();

  constructor(options: WorkQueueOptions<K>) {
    this.#options = options;
    this.#concurrency = options.concurrency ?? 1;
  }

  /** The key is worked on soon; a wait for another attempt ends. */
  add(key: K): void {
    if (this.#stop.signal.aborted) return;
    this.#cancelTimer(key);
    if (this.#running.has(key)) this.#again.add(key);
    else this.#ready.add(key);
    this.#fill();
  }

  /** The key is worked on in `ms` at the latest. An earlier wish counts. */
  addAfter(key: K, ms: number): void {
    if (this.#stop.signal.aborted || this.#ready.has(key) || this.#again.has(key)) return;
    const dueMs = performance.now() + ms;
    const known = this.#timers.get(key);
    if (known !== undefined && known.dueMs <= dueMs) return;
    this.#cancelTimer(key);
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.add(key);
    }, ms);
    this.#timers.set(key, { timer, dueMs });
  }

  /** Keys with work to do: ready, running or waiting. */
  get length(): number {
    return new Set([...this.#ready, ...this.#running.keys(), ...this.#timers.keys()]).size;
  }

  /** True when nothing is ready or running. Waits for later do not count. */
  get idle(): boolean {
    return this.#ready.size === 0 && this.#running.size === 0;
  }

  /** Keys whose last run failed, those with the most failures first. */
  failing(): FailingKey<K>[] {
    const keys = Array.from(this.#failures, ([key, { attempts, reason }]) => ({ key, attempts, reason }));
    return keys.sort((a, b) => b.attempts - a.attempts);
  }

  /** Starts nothing any more; what runs gets its signal. Resolves when nothing runs. */
  async close(): Promise<void> {
    this.#stop.abort('closed');
    for (const key of [...this.#timers.keys()]) this.#cancelTimer(key);
    this.#ready.clear();
    this.#again.clear();
    await Promise.all(this.#running.values());
  }

  #fill(): void {
    for (const key of this.#ready) {
      if (this.#running.size >= this.#concurrency) return;
      this.#ready.delete(key);
      this.#running.set(key, this.#runOnce(key));
    }
  }

  async #runOnce(key: K): Promise<void> {
    // The caller of `add` is not held up, and finds the queue in order.
    await null;
    try {
      await this.#options.run(key, this.#stop.signal);
      this.#failures.delete(key);
    } catch (thrown) {
      if (!this.#stop.signal.aborted) this.#failed(key, toAmbitError(thrown, 'USAGE'));
    }
    this.#running.delete(key);
    if (this.#stop.signal.aborted) return;
    // Work that fails keeps its back-off, also when the key was asked for meanwhile.
    const failure = this.#failures.get(key);
    if (failure !== undefined) this.#retryLater(key, failure);
    else if (this.#again.has(key)) this.#ready.add(key);
    this.#again.delete(key);
    this.#fill();
  }

  #failed(key: K, error: AmbitError): void {
    let failure = this.#failures.get(key);
    if (failure === undefined) {
      const { firstBackoffMs, maxBackoffMs, random } = this.#options;
      const backoff = new Backoff({
        firstMs: firstBackoffMs ?? WORK_QUEUE_TIMES.firstBackoffMs,
        maxMs: maxBackoffMs ?? WORK_QUEUE_TIMES.maxBackoffMs,
        ...(random === undefined ? {} : { random }),
      });
      failure = { backoff, attempts: 0, reason: '' };
      this.#failures.set(key, failure);
    }
    failure.attempts++;
    failure.reason = error.message;
    this.#options.onFailing?.(key, error, failure.attempts);
  }

  #retryLater(key: K, failure: Failure): void {
    this.#again.delete(key);
    this.addAfter(key, failure.backoff.nextDelayMs());
  }

  #cancelTimer(key: K): void {
    const known = this.#timers.get(key);
    if (known === undefined) return;
    clearTimeout(known.timer);
    this.#timers.delete(key);
  }
}
