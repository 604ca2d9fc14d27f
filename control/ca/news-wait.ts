/**
 * Patience with news that are on their way: a pod can ask for its certificate before the control plane has heard of the
 * pod. Whoever is refused only for that is looked at again a few times within a second, a bounded number at once.
 */
export interface NewsWaitOptions {
  /** Pauses before each further look, milliseconds. */
  readonly pausesMs: readonly number[];
  readonly maxWaiting: number;
  readonly maxWaitingPerKey: number;
}

/** See docs/LIMITS.md. */
export const NEWS_WAIT: NewsWaitOptions = {
  pausesMs: [20, 50, 100, 200, 400],
  maxWaiting: 500,
  maxWaitingPerKey: 20,
};

export class NewsWait {
  readonly #options: NewsWaitOptions;
  readonly #perKey = new Map<string, number>();
  #waiting = 0;

  constructor(options: NewsWaitOptions = NEWS_WAIT) {
    this.#options = options;
  }

  /**
   * Looks until the finding is settled or patience ends; resolves with the last finding. Beyond the bound on those who
   * wait (for `key`, and in all) the first finding stands.
   */
  async until<T>(key: string, look: () => T, settled: (finding: T) => boolean): Promise<T> {
    let finding = look();
    if (settled(finding) || !this.#enter(key)) return finding;
    try {
      for (const pauseMs of this.#options.pausesMs) {
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
        finding = look();
        if (settled(finding)) break;
      }
      return finding;
    } finally {
      this.#leave(key);
    }
  }

  #enter(key: string): boolean {
    const waiting = this.#perKey.get(key) ?? 0;
    if (this.#waiting >= this.#options.maxWaiting || waiting >= this.#options.maxWaitingPerKey) return false;
    this.#perKey.set(key, waiting + 1);
    this.#waiting++;
    return true;
  }

  #leave(key: string): void {
    const left = (this.#perKey.get(key) ?? 1) - 1;
    if (left === 0) this.#perKey.delete(key);
    else this.#perKey.set(key, left);
    this.#waiting--;
  }
}
