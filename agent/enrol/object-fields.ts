/** Fields of objects that come from outside, of whatever shape: what is not there, or of another kind, is undefined. */

export function fieldOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}

/** Throws an Error naming the field when it is there and no text. */
export function textOf(parent: unknown, key: string): string | undefined {
  const value = fieldOf(parent, key);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new Error(`${key} must be text`);
  return value;
}

/** Empty for what is no list. */
export function listOf(parent: unknown, key: string): readonly unknown[] {
  const value = fieldOf(parent, key);
  return Array.isArray(value) ? value : [];
}
