/**
 * Responses that were made for one client and fit others at the same place of the same log. Valid until the store
 * changes: what is in them is then no longer the newest.
 */
import type { ResourceStore } from './resource-store.ts';
import type { Response } from './response.ts';

/** Bytes kept per type: a whole mesh of 100,000 resources. Beyond that the oldest go first. */
const MAX_BYTES = 32 * 1024 * 1024;

export class ResponseCache {
  readonly #store: ResourceStore;
  readonly #responses = new Map<string, Response>();
  #sequence = -1;
  #bytes = 0;

  constructor(store: ResourceStore) {
    this.#store = store;
  }

  find(key: string): Response | undefined {
    return this.#sequence === this.#store.sequence ? this.#responses.get(key) : undefined;
  }

  keep(key: string, response: Response): void {
    if (this.#sequence !== this.#store.sequence) this.clear();
    this.#sequence = this.#store.sequence;
    this.#responses.set(key, response);
    this.#bytes += response.bytes.length;
    for (const [oldest, { bytes }] of this.#responses) {
      if (this.#bytes <= MAX_BYTES) break;
      this.#responses.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }

  /** Gives the memory back; call it when nothing happened for a while. */
  clear(): void {
    this.#responses.clear();
    this.#bytes = 0;
  }
}
