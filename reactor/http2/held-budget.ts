/**
 * What receivers of a session leave lying, counted, and bounded by two budgets: of the session and of the worker. Beyond one
 * the stream that holds most is reset: its receiver is the one that stalls, and the others go on.
 */
import { AmbitError } from '../../core/errors.ts';
import type { HeldBytesAccount } from './held-bytes.ts';
import type { Http2Limits } from './limits.ts';
import type { Http2Runtime } from './runtime.ts';
import type { Http2Stream } from './stream.ts';
import type { StreamTable } from './stream-table.ts';

export class HeldBudget implements HeldBytesAccount {
  readonly runtime: Http2Runtime;
  readonly #limits: Http2Limits;
  readonly #streams: StreamTable;
  /** Memory that holds received bytes nobody has taken. */
  bytes = 0;

  constructor(runtime: Http2Runtime, limits: Http2Limits, streams: StreamTable) {
    this.runtime = runtime;
    this.#limits = limits;
    this.#streams = streams;
  }

  accountHeld(deltaBytes: number): void {
    this.bytes += deltaBytes;
  }

  /** Resets streams until both budgets hold. */
  enforce(): void {
    while (this.bytes > this.#limits.sessionHeldBytes) {
      if (!this.#reset(this.largestHolder())) return;
    }
    while (this.runtime.heldBytes > this.#limits.workerHeldBytes) {
      const candidates = [...this.runtime.sessions].map((session) => session.held.largestHolder());
      if (!this.#reset(largest(candidates))) return;
    }
  }

  /** The stream that holds most, or undefined when none holds anything. */
  largestHolder(): Http2Stream | undefined {
    return largest(this.#streams.toArray());
  }

  #reset(stream: Http2Stream | undefined): boolean {
    if (stream === undefined) return false;
    this.runtime.counters.budgetResets++;
    stream.reset(new AmbitError('BUFFER_BUDGET', 'the receiver of the stream does not take its bytes'));
    return true;
  }
}

function largest(streams: readonly (Http2Stream | undefined)[]): Http2Stream | undefined {
  let found: Http2Stream | undefined;
  for (const stream of streams) if ((stream?.heldMemoryBytes ?? 0) > (found?.heldMemoryBytes ?? 0)) found = stream;
  return found;
}
