/**
 * A leader's task whose work is keyed: a queue of its own from `start` to `stop`, which tries again for as long as it
 * lives. A key that keeps failing is told in the log when it begins to be a matter for people, and now and then after.
 */

import { logger } from '../../core/log.ts';
import { WorkQueue } from '../../kube/work-queue.ts';
import type { FailingKey, LeaderTask } from './task.ts';

const log = logger('leader');

/** Failures in a row of one key after which the log tells, and every how many more it tells again. */
const TOLD_AFTER = 4;
const TOLD_EVERY = 100;

export abstract class QueuedTask implements LeaderTask {
  abstract readonly name: string;
  /** Keys worked on at once. */
  protected readonly concurrency: number = 1;
  #queue: WorkQueue | undefined;

  /** Adds the first keys. */
  protected abstract begin(): void;
  /** Compares what stands with what shall stand and writes the difference. Rejects to be tried again. */
  protected abstract run(key: string, signal: AbortSignal): Promise<void>;

  start(): void {
    this.#queue = new WorkQueue({
      run: (key, signal) => this.run(key, signal),
      concurrency: this.concurrency,
      onFailing: (key, error, attempts) => {
        if (attempts === TOLD_AFTER || attempts % TOLD_EVERY === 0) {
          log.warn({ task: this.name, key, attempts, reason: error.message }, 'not written, trying again');
        }
      },
    });
    this.begin();
  }

  async stop(): Promise<void> {
    const queue = this.#queue;
    this.#queue = undefined;
    await queue?.close();
  }

  get length(): number {
    return this.#queue?.length ?? 0;
  }

  failing(): readonly FailingKey[] {
    return this.#queue?.failing() ?? [];
  }

  protected add(key: string): void {
    this.#queue?.add(key);
  }

  protected addAfter(key: string, ms: number): void {
    this.#queue?.addAfter(key, ms);
  }
}
