/**
 * Streams of a session by id. Ids of one direction grow by two, so the live ones fall into different slots of a small
 * array; the rare collision (a stream that lived while thousands came and went) goes to a map. A lookup is an array read and a
 * comparison.
 */
import type { Http2Stream } from './stream.ts';

const FIRST_SLOTS = 8;
const MOST_SLOTS = 1024;

export class StreamTable {
  #slots: (Http2Stream | undefined)[] = new Array(FIRST_SLOTS).fill(undefined);
  #mask = FIRST_SLOTS - 1;
  readonly #overflow = new Map<number, Http2Stream>();
  size = 0;

  find(id: number): Http2Stream | undefined {
    const stream = this.#slots[(id >>> 1) & this.#mask];
    if (stream !== undefined && stream.id === id) return stream;
    return this.#overflow.size === 0 ? undefined : this.#overflow.get(id);
  }

  add(stream: Http2Stream): void {
    if (this.size * 2 >= this.#slots.length && this.#slots.length < MOST_SLOTS) this.#grow();
    this.#place(stream);
    this.size++;
  }

  remove(stream: Http2Stream): void {
    const slot = (stream.id >>> 1) & this.#mask;
    if (this.#slots[slot] === stream) this.#slots[slot] = undefined;
    else if (this.#overflow.get(stream.id) !== stream) return;
    else this.#overflow.delete(stream.id);
    this.size--;
  }

  /** A copy, safe against changes while it is walked. */
  toArray(): Http2Stream[] {
    return [...this.#slots.filter((stream) => stream !== undefined), ...this.#overflow.values()];
  }

  #place(stream: Http2Stream): void {
    const slot = (stream.id >>> 1) & this.#mask;
    if (this.#slots[slot] === undefined) this.#slots[slot] = stream;
    else this.#overflow.set(stream.id, stream);
  }

  #grow(): void {
    const all = this.toArray();
    this.#slots = new Array(this.#slots.length * 2).fill(undefined);
    this.#mask = this.#slots.length - 1;
    this.#overflow.clear();
    for (const stream of all) this.#place(stream);
  }
}
