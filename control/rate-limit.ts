/** A token bucket per key, for at most `maxKeys` keys: beyond that the key that has been quiet longest is forgotten. */
export interface RateLimitOptions {
  /** Requests that may come at once. */
  readonly burst: number;
  readonly perSecond: number;
  readonly maxKeys: number;
}

export class RateLimit {
  readonly #options: RateLimitOptions;
  readonly #now: () => number;
  /** In the order of last use. */
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor(options: RateLimitOptions, now: () => number = Date.now) {
    this.#options = options;
    this.#now = now;
  }

  /** True when one more request of `key` is within its limit; counts it. */
  take(key: string): boolean {
    const now = this.#now();
    const { burst, perSecond, maxKeys } = this.#options;
    const bucket = this.#buckets.get(key) ?? { tokens: burst, atMs: now };
    const elapsedMs = Math.max(0, now - bucket.atMs);
    const tokens = Math.min(burst, bucket.tokens + (elapsedMs * perSecond) / 1000);
    const granted = tokens >= 1;
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: granted ? tokens - 1 : tokens, atMs: now });
    if (this.#buckets.size > maxKeys) {
      const [quietest] = this.#buckets.keys();
      if (quietest !== undefined) this.#buckets.delete(quietest);
    }
    return granted;
  }
}
