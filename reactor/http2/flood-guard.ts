/**
 * Counts what a peer may do but not often: resets, pings, settings, priorities, empty frames. Every method returns undefined
 * while the peer is within the limits, else the name of the limit it exceeded (a key of the limits table).
 */
import type { Http2Limits } from './limits.ts';
import { TokenBucket } from './token-bucket.ts';

export type ExceededLimit = keyof Http2Limits;

/** Buckets that are made when the first event of their kind arrives: an idle session has none. */
export type RatedLimit =
  | 'earlyResets'
  | 'resets'
  | 'invalidFrames'
  | 'pings'
  | 'settings'
  | 'priorities'
  | 'unknownFrames';

export class FloodGuard {
  readonly #limits: Http2Limits;
  readonly #buckets = new Map<RatedLimit, TokenBucket>();
  #emptyData = 0;

  constructor(limits: Http2Limits) {
    this.#limits = limits;
  }

  onEvent(kind: RatedLimit, nowMs: number): ExceededLimit | undefined {
    let bucket = this.#buckets.get(kind);
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#limits[kind], nowMs);
      this.#buckets.set(kind, bucket);
    }
    return bucket.take(nowMs) ? undefined : kind;
  }

  onEmptyData(): ExceededLimit | undefined {
    this.#emptyData++;
    return this.#emptyData > this.#limits.maxConsecutiveEmptyData ? 'maxConsecutiveEmptyData' : undefined;
  }

  onData(): void {
    this.#emptyData = 0;
  }
}
