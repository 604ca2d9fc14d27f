/** When a certificate of our own is to be replaced: at half of its life, by a clock that may be set while it lives. */
export class RenewalTime {
  readonly #now: () => number;
  #fromMs = Number.POSITIVE_INFINITY;
  #atMs = 0;

  /** `now`: milliseconds since the epoch. Due until `issued` is told. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** A certificate that ends at `notAfterMs` has just been made. */
  issued(notAfterMs: number): void {
    this.#fromMs = this.#now();
    this.#atMs = this.#fromMs + (notAfterMs - this.#fromMs) / 2;
  }

  /** Also when the clock was set back behind its making: it may not be valid yet. */
  get isDue(): boolean {
    const nowMs = this.#now();
    return nowMs >= this.#atMs || nowMs < this.#fromMs;
  }
}
