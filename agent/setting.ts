/**
 * Rows of the configuration table and the parsers of their values: pure functions from text to a value, or to words for
 * what was expected.
 */
import { availableParallelism } from 'node:os';
import { parseAuthority } from '../core/ip.ts';

/** Result of one parser: the value, or what is wrong with the text (without repeating secrets). */
type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly expected: string };

export interface Setting<T> {
  /** First name wins when several are set. */
  readonly env: readonly string[];
  readonly parse: (text: string) => Parsed<T>;
  /** Value when nothing is set; text so that documentation and dump show what the parser sees. Absent: undefined. */
  readonly default: () => T;
  readonly unit?: string;
  readonly secret?: true;
  readonly documentation: string;
  /** Path of the value of the Helm chart that sets it, such as `ambient.forceEncryption`; absent: the chart does not. */
  readonly chart?: string;
}

const ok = <T>(value: T): Parsed<T> => ({ ok: true, value });
const bad = <T>(expected: string): Parsed<T> => ({ ok: false, expected });

export function text(value: string): Parsed<string> {
  return ok(value);
}

export function optionalText(value: string): Parsed<string | undefined> {
  return ok(value === '' ? undefined : value);
}

export function names(value: string): Parsed<readonly string[]> {
  return ok(value.split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()])));
}

export function boolean(value: string): Parsed<boolean> {
  return value === 'true' ? ok(true) : value === 'false' ? ok(false) : bad('true or false');
}

export function integer(minimum: number, maximum: number): (value: string) => Parsed<number> {
  return (value) => {
    const number = /^[0-9]{1,9}$/.test(value) ? Number(value) : Number.NaN;
    return number >= minimum && number <= maximum ? ok(number) : bad(`a whole number from ${minimum} to ${maximum}`);
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `10s`, `5m`, `1h30m`, `250ms`; a bare number is seconds. */
export function duration(value: string): Parsed<number> {
  const expected = 'a duration such as 250ms, 10s, 5m or 24h';
  if (/^[0-9]{1,9}$/.test(value)) return ok(Number(value) * 1000);
  if (!/^([0-9]{1,9}(ms|s|m|h))+$/.test(value)) return bad(expected);
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/([0-9]+)(ms|s|m|h)/g)) {
    total += Number(amount) * (UNIT_MS[unit ?? ''] ?? 0);
  }
  return Number.isSafeInteger(total) ? ok(total) : bad(expected);
}

export function oneOf<const T extends string>(...values: readonly T[]): (value: string) => Parsed<T> {
  return (given) => {
    const found = values.find((value) => value === given);
    return found === undefined ? bad(values.join(' or ')) : ok(found);
  };
}

/** `host:port`, optionally behind `https://`. */
export function endpoint(value: string): Parsed<string | undefined> {
  if (value === '') return ok(undefined);
  const bare = value.replace(/^https:\/\//, '');
  return parseAuthority(bare) === undefined ? bad('host:port') : ok(bare);
}

/** A count, `0` for all cores, or `p%` of them. */
export function workers(value: string): Parsed<number> {
  const percent = /^([0-9]{1,3})%$/.exec(value);
  const cores = availableParallelism();
  if (percent !== null) return ok(Math.max(1, Math.ceil((cores * Number(percent[1])) / 100)));
  if (!/^[0-9]{1,3}$/.test(value) || Number(value) > 256) return bad('a number up to 256, 0 for all cores, or p%');
  return ok(value === '0' ? cores : Number(value));
}

export function port(value: string): Parsed<number> {
  return integer(0, 65535)(value);
}

export function setting<T>(row: Setting<T>): Setting<T> {
  return row;
}

/** An absolute path; empty is unset. */
export function optionalPath(value: string): Parsed<string | undefined> {
  return value === '' || value.startsWith('/') ? ok(value === '' ? undefined : value) : bad('an absolute path');
}

export function paths(value: string): Parsed<readonly string[]> {
  const parsed = names(value);
  return parsed.ok && parsed.value.every((path) => path.startsWith('/')) ? parsed : bad('absolute paths');
}
