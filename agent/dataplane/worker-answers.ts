/**
 * Waiting for every worker to have done one thing: a key names the thing, each worker answers once. The first problem, or
 * the end of the time limit, settles the wait as well.
 */
import type { MessageProblem } from './messages.ts';

interface Wait {
  readonly waiting: Set<number>;
  settle(problem: MessageProblem | undefined): void;
}

const SILENT: MessageProblem = { code: 'WORKER', detail: 'a data plane worker did not answer' };

export class WorkerAnswers {
  readonly #waits = new Map<string, Wait>();

  /** Resolves to the first problem, or to undefined when all `workers` (by index) have answered. One wait per key at a time. */
  async expect(key: string, workers: Iterable<number>, timeoutMs: number): Promise<MessageProblem | undefined> {
    const waiting = new Set(workers);
    if (waiting.size === 0) return undefined;
    const { promise, resolve } = Promise.withResolvers<MessageProblem | undefined>();
    const overdue = setTimeout(resolve, timeoutMs, SILENT);
    this.#waits.set(key, { waiting, settle: resolve });
    const problem = await promise;
    clearTimeout(overdue);
    this.#waits.delete(key);
    return problem;
  }

  answer(key: string, worker: number, problem?: MessageProblem): void {
    const wait = this.#waits.get(key);
    if (wait === undefined) return;
    wait.waiting.delete(worker);
    if (problem !== undefined || wait.waiting.size === 0) wait.settle(problem);
  }

  /** Counts as an answer to everything the worker was asked. */
  answerAll(worker: number): void {
    for (const [key, { waiting }] of [...this.#waits]) if (waiting.has(worker)) this.answer(key, worker);
  }
}
