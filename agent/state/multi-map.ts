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

  all(key: string): readonly Value[] {
    const entry = this.#entries.get(key);
    if (entry === undefined) return [];
    return isMany(entry) ? entry : [entry];
  }

  add(key: string, value: Value): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) this.#entries.set(key, value);
    else this.#entries.set(key, [...(isMany(entry) ? entry : [entry]), value].sort(this.#compare));
  }

  /** Removes this very object, if it is there. */
  remove(key: string, value: Value): void {
    const entry = this.#entries.get(key);
    if (entry === value) this.#entries.delete(key);
    else if (isMany(entry)) {
      const rest = entry.filter((other) => other !== value);
      const [first] = rest;
      if (first === undefined) this.#entries.delete(key);
      else this.#entries.set(key, rest.length === 1 ? first : rest);
    }
  }
}

function isMany<Value extends object>(entry: Value | Value[] | undefined): entry is Value[] {
  return Array.isArray(entry);
}
