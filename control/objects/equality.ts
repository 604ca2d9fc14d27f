/** Whether two decoded objects say the same: plain values, maps, lists and bytes, field by field. */

/** The resource version counts for nothing: it changes with every write, also of what nobody reads. */
const NO_CONTENT: ReadonlySet<string> = new Set(['resourceVersion']);

export function sameContent(a: unknown, b: unknown): boolean {
  // Interned values are the common case.
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (a instanceof Map) return b instanceof Map && sameMap(a, b);
  if (a instanceof Uint8Array) return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
  if (Array.isArray(a)) return Array.isArray(b) && sameList(a, b);
  if (b instanceof Map || b instanceof Uint8Array || Array.isArray(b)) return false;
  const left = Object.entries(a);
  const right = new Map(Object.entries(b));
  if (left.length !== right.size) return false;
  return left.every(
    ([name, value]) => NO_CONTENT.has(name) || (right.has(name) && sameContent(value, right.get(name))),
  );
}

function sameMap(a: ReadonlyMap<unknown, unknown>, b: ReadonlyMap<unknown, unknown>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (!b.has(key) || !sameContent(value, b.get(key))) return false;
  return true;
}

function sameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, index) => sameContent(value, b[index]));
}
