/**
 * Received bytes a stream's receiver has not taken yet: a queue of fixed-size arenas lent by the runtime. Bounded by the
 * stream's receive window, because credit is given only for what was taken; the sum over streams is bounded by the byte
 * budgets of session and worker.
 */
import type { Arena } from '../arena.ts';
import { HOLD_ARENA_BYTES, type Http2Runtime } from './runtime.ts';

interface HeldChunk {
  readonly arena: Arena;
  start: number;
  end: number;
}

/** Who counts the memory of held bytes (the session). */
export interface HeldBytesAccount {
  readonly runtime: Http2Runtime;
  accountHeld(deltaBytes: number): void;
}

export type TakeBytes = (arena: Arena, offset: number, length: number) => number;

export class HeldBytes {
  readonly #account: HeldBytesAccount;
  readonly #chunks: HeldChunk[] = [];
  /** Bytes waiting. */
  length = 0;

  constructor(account: HeldBytesAccount) {
    this.#account = account;
  }

  /** Memory in use, which is what budgets count. */
  get memoryBytes(): number {
    return this.#chunks.length * HOLD_ARENA_BYTES;
  }

  append(source: Arena, offset: number, length: number): void {
    let from = offset;
    let left = length;
    while (left > 0) {
      let chunk = this.#chunks.at(-1);
      if (chunk === undefined || chunk.end === HOLD_ARENA_BYTES) {
        chunk = { arena: this.#account.runtime.takeHoldArena(), start: 0, end: 0 };
        this.#account.accountHeld(HOLD_ARENA_BYTES);
        this.#chunks.push(chunk);
      }
      const step = Math.min(left, HOLD_ARENA_BYTES - chunk.end);
      source.bytes.copy(chunk.arena.bytes, chunk.end, from, from + step);
      chunk.end += step;
      from += step;
      left -= step;
    }
    this.length += length;
  }

  /** Offers bytes until `take` accepts less than offered. Returns the bytes taken, or the negative result of `take`. */
  offer(taker: { take: TakeBytes }): number {
    let total = 0;
    for (;;) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) return total;
      const size = chunk.end - chunk.start;
      const taken = taker.take(chunk.arena, chunk.start, size);
      if (taken < 0) return taken;
      chunk.start += taken;
      this.length -= taken;
      total += taken;
      // `clear` may have run inside `take`.
      if (this.#chunks[0] !== chunk) return total;
      if (taken < size) return total;
      this.#chunks.shift();
      this.#giveBack(chunk);
    }
  }

  clear(): void {
    for (const chunk of this.#chunks) this.#giveBack(chunk);
    this.#chunks.length = 0;
    this.length = 0;
  }

  #giveBack(chunk: HeldChunk): void {
    this.#account.runtime.giveHoldArena(chunk.arena);
    this.#account.accountHeld(-HOLD_ARENA_BYTES);
  }
}
