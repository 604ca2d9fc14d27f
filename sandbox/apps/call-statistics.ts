/**
 * What the calls of one process came to, printed once a second as one JSON line while there is something to say: calls
 * and median latency by the pod that answered, and the failures.
 */

/** One entry of the line. `pod` is empty for calls that failed. */
export interface CallReport {
  readonly url: string;
  readonly pod: string;
  readonly count: number;
  readonly p50Ms: number;
  /** Text of the last failure. */
  readonly failure?: string;
}

/** Durations kept per second and pod; beyond that the median is of the first ones. */
const MAX_SAMPLES = 5000;

export class CallStatistics {
  readonly #url: string;
  #durations = new Map<string, number[]>();
  #failures = 0;
  #lastFailure = '';

  constructor(url: string) {
    this.#url = url;
    setInterval(() => this.#print(), 1000).unref();
  }

  succeeded(pod: string, durationMs: number): void {
    const known = this.#durations.get(pod) ?? [];
    if (known.length === 0) this.#durations.set(pod, known);
    if (known.length < MAX_SAMPLES) known.push(durationMs);
  }

  failed(error: unknown): void {
    this.#failures++;
    this.#lastFailure = error instanceof Error ? error.message : String(error);
  }

  #print(): void {
    const url = this.#url;
    const calls: CallReport[] = [...this.#durations].map(([pod, list]) => ({
      url,
      pod,
      count: list.length,
      p50Ms: median(list),
    }));
    if (this.#failures > 0) calls.push({ url, pod: '', count: this.#failures, p50Ms: 0, failure: this.#lastFailure });
    if (calls.length > 0) process.stdout.write(`${JSON.stringify({ calls })}\n`);
    this.#durations = new Map();
    this.#failures = 0;
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
