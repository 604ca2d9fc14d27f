/** Exponential back-off with full jitter on the upper half; a pure state, the caller owns the timer. */
export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Uniform in [0, 1); replaced in tests. */
  readonly random?: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #nextMs: number;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#nextMs = options.firstMs;
  }

  /** Milliseconds to wait now: between half and all of the current step; the step doubles up to the maximum. */
  nextDelayMs(): number {
    const step = this.#nextMs;
    this.#nextMs = Math.min(step * 2, this.#options.maxMs);
    return step / 2 + (step / 2) * (this.#options.random ?? Math.random)();
  }

  /** Call after success. */
  reset(): void {
    this.#nextMs = this.#options.firstMs;
  }
}
