/** One row of the configuration of the control plane, and the parsers that rows share. Parsers are pure and total. */
import { isIP } from 'node:net';
import { parseAuthority, type SocketAddress } from '../../core/ip.ts';

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false /** What it must be, as in "must be a path". */; readonly expected: string };

export interface Setting<T> {
  /** Without the leading dashes. */
  readonly flag: string;
  readonly env: string;
  readonly parse: (text: string) => Parsed<T>;
  /** As a user would write it; undefined: must be given. */
  readonly default: string | undefined;
  readonly documentation: string;
  /** Path of the value of the Helm chart that sets it, such as `meshConfig.trustDomain`; absent: the chart does not. */
  readonly chart?: string;
}

/** Keeps the type of a row's value. */
export function row<T>(setting: Setting<T>): Setting<T> {
  return setting;
}

const ok = <T>(value: T): Parsed<T> => ({ ok: true, value });
const bad = <T>(expected: string): Parsed<T> => ({ ok: false, expected });

export const path = (text: string): Parsed<string> => (text === '' ? bad('a path') : ok(text));
export const optionalPath = (text: string): Parsed<string | undefined> => ok(text === '' ? undefined : text);

export function name(text: string): Parsed<string> {
  return /^[A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?$/.test(text) ? ok(text) : bad('a name');
}

export function optionalName(text: string): Parsed<string> {
  return text === '' ? ok('') : name(text);
}

export function dnsName(text: string): Parsed<string> {
  return /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(text) ? ok(text) : bad('a DNS name in lower case');
}

/** One of `values`. */
export function oneOf<const T extends string>(...values: readonly T[]): (text: string) => Parsed<T> {
  return (text) => {
    const value = values.find((candidate) => candidate === text);
    return value === undefined ? bad(values.join(' or ')) : ok(value);
  };
}

export function boolean(text: string): Parsed<boolean> {
  if (text === 'true' || text === 'false') return ok(text === 'true');
  return bad('true or false');
}

/** `<namespace>/<service account>`. */
export const ACCOUNT = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** `ip:port`; port 0 lets the kernel choose. */
export function listenAddress(text: string): Parsed<SocketAddress> {
  const expected = 'ip:port';
  const zero = text.endsWith(':0') ? `${text.slice(0, -1)}1` : text;
  const parsed = parseAuthority(zero);
  if (parsed?.kind !== 'address') return bad(expected);
  return ok(zero === text ? parsed.address : { ip: parsed.address.ip, port: 0 });
}

/** As `listenAddress`; an empty text: not served. */
export function optionalListenAddress(text: string): Parsed<SocketAddress | undefined> {
  return text === '' ? ok(undefined) : listenAddress(text);
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** A duration with a unit, as milliseconds. */
export function duration(minimumMs: number): (text: string) => Parsed<number> {
  return (text) => {
    const match = /^([1-9][0-9]{0,8})(ms|s|m|h|d)$/.exec(text);
    const ms = Number(match?.[1]) * (UNIT_MS.get(match?.[2] ?? '') ?? Number.NaN);
    return Number.isSafeInteger(ms) && ms >= minimumMs ? ok(ms) : bad('a duration such as 30s, 5m, 24h or 90d');
  };
}

export function integer(minimum: number, maximum: number): (text: string) => Parsed<number> {
  return (text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    return value >= minimum && value <= maximum ? ok(value) : bad(`a whole number from ${minimum} to ${maximum}`);
  };
}

export function commaSeparated(pattern: RegExp, expected: string): (text: string) => Parsed<readonly string[]> {
  return (text) => {
    const values = text === '' ? [] : text.split(',').map((value) => value.trim());
    return values.every((value) => pattern.test(value)) ? ok(values) : bad(expected);
  };
}

export function serverNames(text: string): Parsed<readonly string[]> {
  const values = text === '' ? [] : text.split(',').map((value) => value.trim());
  const sound = values.every((value) => isIP(value) !== 0 || dnsName(value).ok);
  return sound ? ok(values) : bad('DNS names and IP addresses, separated by commas');
}
