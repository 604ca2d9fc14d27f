/**
 * Values of AuthorizationPolicy rules: text matches, address blocks, ports and service accounts.
 *
 * Stricter than the API server on purpose: a value that could never match, or that would match less than it seems to
 * say, is refused, because in a DENY it would silently protect nothing.
 */

import { type Decoder, filledList, text } from '../../core/decoder.ts';
import { type CidrBlock, parseCidr } from '../../core/ip.ts';

export type TextMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly value: string }
  | { readonly kind: 'presence' };

export interface ServiceAccountName {
  /** Empty: the namespace of the policy. */
  readonly namespace: string;
  readonly name: string;
}

/** `abc`, `abc*`, `*abc` or `*`. */
export function parseTextMatch(value: string): TextMatch | undefined {
  if (value === '*') return { kind: 'presence' };
  const star = value.indexOf('*');
  if (value === '' || star !== value.lastIndexOf('*')) return undefined;
  if (star < 0) return { kind: 'exact', value };
  if (star === value.length - 1) return { kind: 'prefix', value: value.slice(0, -1) };
  return star === 0 ? { kind: 'suffix', value: value.slice(1) } : undefined;
}

function parsePrincipal(value: string): TextMatch | undefined {
  return value.startsWith('spiffe://') ? undefined : parseTextMatch(value);
}

function parsePort(value: string): number | undefined {
  const port = /^[1-9][0-9]{0,4}$/.test(value) ? Number(value) : Number.NaN;
  return port <= 65_535 ? port : undefined;
}

function parseServiceAccount(value: string): ServiceAccountName | undefined {
  const match = /^(?:([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)\/)?([a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)$/.exec(value);
  return match?.[2] === undefined ? undefined : { namespace: match[1] ?? '', name: match[2] };
}

export const namespaceMatches: Decoder<TextMatch[]> = filledList(
  text('a namespace, possibly with one * at its start or end', parseTextMatch),
);
export const principalMatches: Decoder<TextMatch[]> = filledList(
  text('an identity without spiffe://, possibly with one * at its start or end', parsePrincipal),
);
export const cidrBlocks: Decoder<CidrBlock[]> = filledList(text('an IP address or a CIDR block', parseCidr));
export const ports: Decoder<number[]> = filledList(text('a quoted port number from 1 to 65535', parsePort));
export const serviceAccounts: Decoder<ServiceAccountName[]> = filledList(
  text('a service account or <namespace>/<service account>, without *', parseServiceAccount),
);
