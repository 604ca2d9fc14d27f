/** A token bucket over the loop's clock: `burst` events at once, `perSecond` on average. No allocation per event. */
import type { RateLimit } from './limits.ts';

export class TokenBucket {
  readonly #limit: RateLimit;
  #tokens: number;
  #filledAtMs: number;

  constructor(limit: RateLimit, nowMs: number) {
    this.#limit = limit;
    this.#tokens = limit.burst;
    this.#filledAtMs = nowMs;
  }

  /** Takes one token; false when there is none left. */
  take(nowMs: number): boolean {
    const limit = this.#limit;
    if (nowMs > this.#filledAtMs) {
      const refill = ((nowMs - this.#filledAtMs) / 1000) * limit.perSecond;
      this.#tokens = Math.min(limit.burst, this.#tokens + refill);
      this.#filledAtMs = nowMs;
    }
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
