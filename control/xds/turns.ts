/**
 * Work in turns: whoever has something to do gets one bounded step, then the next one does. After a few milliseconds
 * the event loop goes on with everything else before the next turn. No order but arrival; nobody starves.
 */
export interface TurnOptions {
  /** How long one turn may take, milliseconds; a step that has begun is finished. */
  readonly budgetMs: number;
}

export class Turns<T> {
  readonly #step: (worker: T) => boolean;
  readonly #options: TurnOptions;
  readonly #ready = new Set<T>();
  #scheduled: NodeJS.Immediate | undefined;
  /** The longest turn so far, milliseconds. */
  longestMs = 0;

  /** `step` does one piece of work and says whether there is more. It must not throw. */
  constructor(step: (worker: T) => boolean, options: TurnOptions) {
    this.#step = step;
    this.#options = options;
  }

  get waiting(): number {
    return this.#ready.size;
  }

  /** `worker` has something to do. Cheap, and safe to call at any time. */
  wake(worker: T): void {
    this.#ready.add(worker);
    this.#scheduled ??= setImmediate(this.#turn);
  }

  forget(worker: T): void {
    this.#ready.delete(worker);
  }

  close(): void {
    this.#ready.clear();
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
  }

  readonly #turn = (): void => {
    this.#scheduled = undefined;
    const startedMs = performance.now();
    // What is added while iterating is reached by the same iteration: a ring.
    for (const worker of this.#ready) {
      this.#ready.delete(worker);
      if (this.#step(worker)) this.#ready.add(worker);
      const spentMs = performance.now() - startedMs;
      if (spentMs > this.longestMs) this.longestMs = spentMs;
      if (spentMs >= this.#options.budgetMs) break;
    }
    if (this.#ready.size > 0) this.#scheduled ??= setImmediate(this.#turn);
  };
}
