/**
 * A map from a key to one or, rarely, several values in order of preference. A single value is stored as it is: with
 * 100,000 keys an array around each would cost more than the keys.
 */
export class MultiMap<Value extends object> {
  readonly #entries = new Map<string, Value | Value[]>();
  readonly #compare: (a: Value, b: Value) => number;

  /** @param compare as of `Array.sort`; the smallest comes first */
  constructor(compare: (a: Value, b: Value) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#entries.size;
  }

  first(key: string): Value | undefined {
    const entry = this.#entries.get(key);
    return isMany(entry) ? entry[0] : entry;
  }

  count(key: string): number {
    const entry = this.#entries.get(key);
    return isMany(entry) ? entry.length : entry === undefined ? 0 : 1;
  }

  /** The first value that `accept` takes. */
  find(key: string, accept: (value: Value) => boolean): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (isMany(entry)) return entry.find(accept);
    return accept(entry) ? entry : undefined;
  }

  /** Valid until the next change. */
  all(key: string): readonly Value[] {
    const entry = this.#entries.get(key);
    if (entry === undefined) return [];
    return isMany(entry) ? entry : [entry];
  }

  add(key: string, value: Value): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) this.#entries.set(key, value);
    else if (isMany(entry)) entry.splice(this.#placeOf(entry, value), 0, value);
    else this.#entries.set(key, this.#compare(entry, value) <= 0 ? [entry, value] : [value, entry]);
  }

  /** Removes this very object, if it is there, as often as it is there. */
  remove(key: string, value: Value): void {
    const entry = this.#entries.get(key);
    if (entry === value) this.#entries.delete(key);
    else if (isMany(entry)) {
      for (let at = entry.indexOf(value); at >= 0; at = entry.indexOf(value)) entry.splice(at, 1);
      const [first] = entry;
      if (first === undefined) this.#entries.delete(key);
      else if (entry.length === 1) this.#entries.set(key, first);
    }
  }

  /** Behind every value that does not come after it. */
  #placeOf(values: readonly Value[], value: Value): number {
    let low = 0;
    let high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = values[middle];
      if (other !== undefined && this.#compare(other, value) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isMany<Value extends object>(entry: Value | Value[] | undefined): entry is Value[] {
  return Array.isArray(entry);
}
