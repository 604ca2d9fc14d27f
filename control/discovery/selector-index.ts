/**
 * Objects of a namespace by their label selectors: which of them select a workload is found from its labels, without
 * trying every object. Each object stands under one pair of its selector, the one that fewest others stand under.
 */
import { selects } from '../objects/metadata.ts';

export interface Selecting {
  readonly selector: ReadonlyMap<string, string>;
}

interface Placed<T> {
  readonly entry: T;
  readonly pair: string;
}

export class SelectorIndex<T extends Selecting> {
  /** Namespace, pair, name. */
  readonly #byNamespace = new Map<string, Map<string, Map<string, T>>>();
  readonly #placed = new Map<string, Placed<T>>();

  /** Puts the object `name` of `namespace` in, in place of an earlier one. An empty selector selects nothing. */
  set(namespace: string, name: string, entry: T): void {
    this.delete(namespace, name);
    const pairs = this.#byNamespace.get(namespace) ?? new Map<string, Map<string, T>>();
    const pair = rarestPair(pairs, entry.selector);
    if (pair === undefined) return;
    const bucket = pairs.get(pair) ?? new Map<string, T>();
    bucket.set(name, entry);
    pairs.set(pair, bucket);
    this.#byNamespace.set(namespace, pairs);
    this.#placed.set(`${namespace}/${name}`, { entry, pair });
  }

  delete(namespace: string, name: string): void {
    const key = `${namespace}/${name}`;
    const placed = this.#placed.get(key);
    if (placed === undefined) return;
    this.#placed.delete(key);
    const pairs = this.#byNamespace.get(namespace);
    const bucket = pairs?.get(placed.pair);
    bucket?.delete(name);
    if (bucket?.size === 0) pairs?.delete(placed.pair);
    if (pairs?.size === 0) this.#byNamespace.delete(namespace);
  }

  find(namespace: string, name: string): T | undefined {
    return this.#placed.get(`${namespace}/${name}`)?.entry;
  }

  /** Those that select a workload with these labels, in no particular order. */
  matching(namespace: string, labels: ReadonlyMap<string, string>): T[] {
    const found: T[] = [];
    const pairs = this.#byNamespace.get(namespace);
    if (pairs === undefined) return found;
    for (const [key, value] of labels) {
      for (const entry of pairs.get(pairOf(key, value))?.values() ?? []) {
        if (selects(entry.selector, labels)) found.push(entry);
      }
    }
    return found;
  }
}

function rarestPair(
  pairs: ReadonlyMap<string, ReadonlyMap<string, unknown>>,
  selector: ReadonlyMap<string, string>,
): string | undefined {
  let best: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const [key, value] of selector) {
    const pair = pairOf(key, value);
    const others = pairs.get(pair)?.size ?? 0;
    if (others < fewest) {
      best = pair;
      fewest = others;
    }
  }
  return best;
}

function pairOf(key: string, value: string): string {
  return `${key}=${value}`;
}
