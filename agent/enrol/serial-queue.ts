/**
 * Runs work one piece after another per key and side by side across keys. The number of pieces that wait for one key is
 * bounded: the piece beyond it is refused at once, since its caller will come again.
 */
import { AmbitError } from '../../core/errors.ts';

interface Lane {
  tail: Promise<unknown>;
  length: number;
}

export class SerialQueue {
  readonly #mostPerKey: number;
  readonly #lanes = new Map<string, Lane>();

  constructor(mostPerKey: number) {
    this.#mostPerKey = mostPerKey;
  }

  /** Resolves or rejects with the work's own result. Throws `NETNS` when too much waits for the key already. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const lane = this.#lanes.get(key) ?? { tail: Promise.resolve(), length: 0 };
    if (lane.length >= this.#mostPerKey) throw new AmbitError('NETNS', `${lane.length} calls already wait for ${key}`);
    this.#lanes.set(key, lane);
    lane.length++;
    const result = lane.tail.then(work);
    lane.tail = result.catch(() => undefined);
    try {
      return await result;
    } finally {
      lane.length--;
      if (lane.length === 0) this.#lanes.delete(key);
    }
  }

  /** Resolves when everything that was asked for has ended. */
  async idle(): Promise<void> {
    while (this.#lanes.size > 0) await Promise.all([...this.#lanes.values()].map((lane) => lane.tail));
  }
}
