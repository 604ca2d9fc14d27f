/**
 * A first look at a Kubernetes token, before anybody is asked about it: what it says of itself, unverified. Only for
 * refusing what the API server would refuse anyway, and for the end of tokens that it has accepted. Pure.
 */
import { decode, integer, list, object, string } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';

export interface TokenClaims {
  readonly subject: string;
  readonly audiences: readonly string[];
  /** Milliseconds since the epoch. */
  readonly expiresMs: number;
  /** Which key has signed it, by its own account; empty when it does not say. */
  readonly keyId: string;
}

const claims = object(
  {
    sub: string,
    aud: (value, path, report) => (typeof value === 'string' ? [value] : list(string)(value, path, report)),
    exp: integer(0, 1e11),
  },
  'ignore',
);
const header = object(
  { kid: (value, path, report) => (value === undefined ? '' : string(value, path, report)) },
  'ignore',
);

/** Throws AUTHENTICATION for what is no JSON Web Token with subject, audience and end. */
export function readClaims(token: string): TokenClaims {
  const [head, payload, signature, ...rest] = token.split('.');
  if (head === undefined || payload === undefined || !signature || rest.length > 0) {
    throw new AmbitError('AUTHENTICATION', 'not a JSON Web Token');
  }
  const [decodedHeader, decoded] = [decode(header, parsePart(head)), decode(claims, parsePart(payload))];
  if (!decodedHeader.ok || !decoded.ok) {
    throw new AmbitError('AUTHENTICATION', 'not a token of a service account: sub, aud and exp are needed');
  }
  const { sub, aud, exp } = decoded.value;
  return { subject: sub, audiences: aud, expiresMs: exp * 1000, keyId: decodedHeader.value.kid };
}

/** Why the API server would not accept the token for these audiences. Undefined: it might. */
export function findObviousFault(
  { subject, audiences, expiresMs }: TokenClaims,
  wanted: readonly string[],
  nowMs: number,
): string | undefined {
  if (!subject.startsWith('system:serviceaccount:')) return 'not of a service account';
  if (expiresMs <= nowMs) return `expired ${Math.ceil((nowMs - expiresMs) / 1000)} s ago`;
  if (!audiences.some((audience) => wanted.includes(audience))) return `not for the audience ${wanted.join(' or ')}`;
  return undefined;
}

function parsePart(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
}
