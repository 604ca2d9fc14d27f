/**
 * Equal values kept once. Objects of a cluster repeat themselves: the pods of a Deployment share all their labels, a
 * hundred of them a node. What is shared is immutable. The tables are bounded: a full one starts anew, which costs
 * sharing with older objects and nothing else.
 */

const MAX_STRINGS = 100_000;
const MAX_MAPS = 50_000;
/** Longer texts are hardly ever repeated. */
const MAX_LENGTH = 256;

interface Owner {
  readonly kind: string;
  readonly name: string;
}

const strings = new Map<string, string>();
const owners = new Map<string, Owner>();
const lists = new Map<string, readonly unknown[]>();
const maps = new Map<string, ReadonlyMap<string, string>>();

/** The text itself, or an equal one from before. */
export function interned<T extends string>(text: T): T {
  if (text.length > MAX_LENGTH) return text;
  const known = strings.get(text);
  // Equal texts have equal types.
  if (known !== undefined) return known as T;
  if (strings.size >= MAX_STRINGS) strings.clear();
  strings.set(text, text);
  return text;
}

/** A map with these entries, its keys in order, so that equal content has equal text. */
export function internedMap(entries: Iterable<readonly [string, string]>): ReadonlyMap<string, string> {
  const sorted = [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
  if (sorted.length === 0) return EMPTY_MAP;
  const text = JSON.stringify(sorted);
  const known = maps.get(text);
  if (known !== undefined) return known;
  const result = new Map(sorted.map(([key, value]) => [interned(key), interned(value)]));
  if (maps.size >= MAX_MAPS) maps.clear();
  maps.set(text, result);
  return result;
}

/** A list of small plain values: equal lists are one. */
export function internedList<T>(list: readonly T[]): readonly T[] {
  const text = JSON.stringify(list);
  const known = lists.get(text);
  // Equal texts come from equal values of the same decoder.
  if (known !== undefined) return known as readonly T[];
  if (lists.size >= MAX_MAPS) lists.clear();
  lists.set(text, list);
  return list;
}

/** The controlling owner of an object; replicas share theirs. */
export function internedOwner(kind: string, name: string): Owner {
  const text = `${kind}/${name}`;
  const known = owners.get(text);
  if (known !== undefined) return known;
  const owner = { kind: interned(kind), name };
  if (owners.size >= MAX_MAPS) owners.clear();
  owners.set(text, owner);
  return owner;
}

export const EMPTY_MAP: ReadonlyMap<string, string> = new Map();
