/** Calls at a steady rate, each on its own connection; counts what succeeded and keeps the texts of what failed. */
import { callOnce } from './http-client.ts';

const KEPT_FAILURES = 20;

export interface LoadResult {
  readonly calls: number;
  readonly failed: number;
  readonly failures: readonly string[];
}

export class SteadyLoad {
  readonly #timer: NodeJS.Timeout;
  readonly #pending = new Set<Promise<void>>();
  #calls = 0;
  #failed = 0;
  #failures: string[] = [];

  constructor(url: string, callsPerSecond: number) {
    this.#timer = setInterval(() => {
      const call: Promise<void> = this.#call(url).finally(() => this.#pending.delete(call));
      this.#pending.add(call);
    }, 1000 / callsPerSecond);
  }

  /** Stops calling, waits for the calls under way, and says how it went. */
  async stop(): Promise<LoadResult> {
    clearInterval(this.#timer);
    await Promise.all(this.#pending);
    return { calls: this.#calls, failed: this.#failed, failures: this.#failures };
  }

  async #call(url: string): Promise<void> {
    this.#calls++;
    try {
      const { status, body } = await callOnce(url);
      if (status !== 200) throw new Error(`HTTP status ${status}: ${body.slice(0, 200)}`);
    } catch (error) {
      this.#failed++;
      const at = new Date().toISOString();
      if (this.#failures.length < KEPT_FAILURES)
        this.#failures.push(`${at} ${error instanceof Error ? error.message : error}`);
    }
  }
}
