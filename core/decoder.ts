/**
 * Decoders of outside objects: combinators that check a plain value (what a YAML or JSON parser gives) field by field.
 *
 * A decoder is total: it returns the value, or `undefined` after it reported at least one problem with the path of the
 * field. All problems of an object are found in one pass. `decode` is the only door: it yields a value only when
 * nothing was reported.
 */

/** Steps from the root of the document: field names and list positions. */
export type Path = readonly (string | number)[];

export interface FieldProblem {
  readonly path: Path;
  /** What is wrong, in words for the person who wrote the file. */
  readonly reason: string;
}

export type Report = (path: Path, reason: string) => void;
export type Decoder<T> = (value: unknown, path: Path, report: Report) => T | undefined;

export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; problems: FieldProblem[] };

/** Runs a decoder over a whole value. */
export function decode<T>(decoder: Decoder<T>, value: unknown): Decoded<T> {
  const problems: FieldProblem[] = [];
  const result = decoder(value, [], (path, reason) => problems.push({ path, reason }));
  if (problems.length > 0) return { ok: false, problems };
  // A decoder of an optional value may give undefined; nothing reported means that this is its value.
  return { ok: true, value: result as T };
}

const MAX_STRING = 65_536;
const MAX_ENTRIES = 10_000;

export const string: Decoder<string> = (value, path, report) => {
  if (typeof value !== 'string') return fail(path, report, `must be a string, not ${describe(value)}`);
  if (value.length > MAX_STRING) return fail(path, report, `must be at most ${MAX_STRING} characters`);
  return value;
};

export const boolean: Decoder<boolean> = (value, path, report) =>
  typeof value === 'boolean' ? value : fail(path, report, `must be true or false, not ${describe(value)}`);

export function integer(minimum: number, maximum: number): Decoder<number> {
  return (value, path, report) =>
    typeof value === 'number' && Number.isInteger(value) && value >= minimum && value <= maximum
      ? value
      : fail(path, report, `must be a whole number from ${minimum} to ${maximum}, not ${describe(value)}`);
}

export function oneOf<const T extends string>(...allowed: readonly T[]): Decoder<T> {
  return (value, path, report) => {
    const found = allowed.find((candidate) => candidate === value);
    return found ?? fail(path, report, `must be one of ${allowed.join(', ')}, not ${describe(value)}`);
  };
}

/** A string that `parse` understands; `expected` completes "must be ...". */
export function text<T>(expected: string, parse: (value: string) => T | undefined): Decoder<T> {
  return (value, path, report) => {
    const raw = string(value, path, report);
    if (raw === undefined) return undefined;
    const parsed = parse(raw);
    return parsed === undefined ? fail(path, report, `must be ${expected}, not ${describe(raw)}`) : parsed;
  };
}

/** Absent and null are undefined. */
export function optional<T>(inner: Decoder<T>): Decoder<T | undefined> {
  return (value, path, report) => (value === undefined || value === null ? undefined : inner(value, path, report));
}

/** Absent and null are `fallback`. */
export function withDefault<T>(inner: Decoder<T>, fallback: T): Decoder<T> {
  return (value, path, report) => (value === undefined || value === null ? fallback : inner(value, path, report));
}

export function list<T>(inner: Decoder<T>): Decoder<T[]> {
  return (value, path, report) => {
    if (!Array.isArray(value)) return fail(path, report, `must be a list, not ${describe(value)}`);
    if (value.length > MAX_ENTRIES) return fail(path, report, `must have at most ${MAX_ENTRIES} entries`);
    const result: T[] = [];
    value.forEach((entry: unknown, index) => {
      const decoded = inner(entry, [...path, index], report);
      if (decoded !== undefined) result.push(decoded);
    });
    return result;
  };
}

/** As `list`, refusing an empty one: in a policy an empty list reads like a restriction and is none. */
export function filledList<T>(inner: Decoder<T>): Decoder<T[]> {
  const any = list(inner);
  return (value, path, report) => {
    if (Array.isArray(value) && value.length === 0) return fail(path, report, 'must not be an empty list');
    return any(value, path, report);
  };
}

/** An object with free keys and values of one kind. */
export function record<T>(inner: Decoder<T>): Decoder<ReadonlyMap<string, T>> {
  return (value, path, report) => {
    if (!isRecord(value)) return fail(path, report, `must be a map, not ${describe(value)}`);
    const entries = Object.entries(value);
    if (entries.length > MAX_ENTRIES) return fail(path, report, `must have at most ${MAX_ENTRIES} entries`);
    const result = new Map<string, T>();
    for (const [key, entry] of entries) {
      const decoded = inner(entry, [...path, key], report);
      if (decoded !== undefined) result.set(key, decoded);
    }
    return result;
  };
}

export type Shape<T> = { readonly [K in keyof T]: Decoder<T[K]> };

/**
 * An object with named fields. `others` says what happens to fields the shape does not name: Kubernetes objects carry
 * many that the mesh does not read (`ignore`); in a policy an unknown field may be a misspelt restriction (`refuse`).
 */
export function object<T>(shape: Shape<T>, others: 'ignore' | 'refuse'): Decoder<T> {
  return (value, path, report) => {
    if (!isRecord(value)) return fail(path, report, `must be an object, not ${describe(value)}`);
    if (others === 'refuse') {
      for (const name of Object.keys(value)) {
        if (!Object.hasOwn(shape, name)) report([...path, name], 'is not a field of this object');
      }
    }
    const result: Partial<T> = {};
    for (const name in shape) {
      const field = Object.hasOwn(value, name) ? value[name] : undefined;
      const decoded = shape[name](field, [...path, name], report);
      if (decoded !== undefined) result[name] = decoded;
    }
    // Every field was decoded or reported; `decode` discards the object when one was reported.
    return result as T;
  };
}

/** Changes the value of a decoder; `change` may report what only shows in the whole. */
export function mapped<A, B>(inner: Decoder<A>, change: (value: A, path: Path, report: Report) => B): Decoder<B> {
  return (value, path, report) => {
    let failed = false;
    const decoded = inner(value, path, (at, reason) => {
      failed = true;
      report(at, reason);
    });
    return failed || decoded === undefined ? undefined : change(decoded, path, report);
  };
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fail(path: Path, report: Report, reason: string): undefined {
  report(path, reason);
  return undefined;
}

/** A short, safe rendering for messages. */
function describe(value: unknown): string {
  if (value === undefined) return 'absent';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object';
  const shown = JSON.stringify(value);
  return shown.length > 60 ? `${shown.slice(0, 60)}...` : shown;
}
