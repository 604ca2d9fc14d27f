/**
 * How many things may be opening at the same time; the others wait in the order of their arrival. Streams whose first
 * requests are being read pass here: after a restart every agent comes at once, each with a list of all that it holds.
 */
export interface GateOptions {
  readonly places: number;
  /** A place is given to the next one after this time at the latest. */
  readonly holdMs: number;
}

export class OpeningGate<T> {
  readonly #options: GateOptions;
  readonly #open: (entrant: T) => void;
  readonly #waiting = new Set<T>();
  /** Who is opening, and since when, milliseconds of `performance.now`. */
  readonly #opening = new Map<T, number>();

  /** `open` is called for each entrant when its turn has come. */
  constructor(open: (entrant: T) => void, options: GateOptions) {
    this.#open = open;
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  enter(entrant: T): void {
    this.#waiting.add(entrant);
    this.#admit();
  }

  /** `entrant` has opened, or gone away. */
  leave(entrant: T): void {
    this.#waiting.delete(entrant);
    if (this.#opening.delete(entrant)) this.#admit();
  }

  /** Call it now and then: takes places back that are held for too long. */
  expire(nowMs: number): void {
    for (const [entrant, sinceMs] of this.#opening) {
      if (nowMs - sinceMs >= this.#options.holdMs) this.#opening.delete(entrant);
    }
    this.#admit();
  }

  #admit(): void {
    for (const entrant of this.#waiting) {
      if (this.#opening.size >= this.#options.places) return;
      this.#waiting.delete(entrant);
      this.#opening.set(entrant, performance.now());
      this.#open(entrant);
    }
  }
}
