/**
 * Bounds on time of the event loop: work that is asked for by strangers may take a share of it and no more, so that
 * discovery and certificates, which live on the same thread, go on.
 */

/** Time of the thread for work that may be left out: `share` of every second, unused time is not saved up. */
export class TimeBudget {
  readonly #share: number;
  readonly #now: () => number;
  #spentMs = 0;
  #atMs: number;

  constructor(share: number, now: () => number = () => performance.now()) {
    this.#share = share;
    this.#now = now;
    this.#atMs = now();
  }

  /** True while the share is not used up. A piece of work may overdraw it. */
  get isOpen(): boolean {
    const nowMs = this.#now();
    this.#spentMs = Math.max(0, this.#spentMs - (nowMs - this.#atMs) * this.#share);
    this.#atMs = nowMs;
    return this.#spentMs <= 1000 * this.#share;
  }

  /** Notes time that was spent. */
  charge(spentMs: number): void {
    this.#spentMs += spentMs;
  }

  /** The result of `work`; undefined, without doing it, when the share is used up. */
  spend<T>(work: () => T): T | undefined {
    if (!this.isOpen) return undefined;
    const startMs = this.#now();
    try {
      return work();
    } finally {
      this.charge(this.#now() - startMs);
    }
  }
}

/** A budget per address, for at most `maxAddresses`: beyond that the one that has been quiet longest is forgotten. */
export class TimePerAddress {
  readonly #share: number;
  readonly #maxAddresses: number;
  /** In the order of last use. */
  readonly #budgets = new Map<string, TimeBudget>();

  constructor(share: number, maxAddresses: number) {
    this.#share = share;
    this.#maxAddresses = maxAddresses;
  }

  of(address: string): TimeBudget {
    const budget = this.#budgets.get(address) ?? new TimeBudget(this.#share);
    this.#budgets.delete(address);
    this.#budgets.set(address, budget);
    if (this.#budgets.size > this.#maxAddresses) {
      const [quietest] = this.#budgets.keys();
      if (quietest !== undefined) this.#budgets.delete(quietest);
    }
    return budget;
  }
}
