/**
 * The SPIFFE identity in a verified certificate chain: the leaf's only URI subject alternative name (X509-SVID section 2).
 * No URI name, several, or one that is no workload identity is a refusal. Chain and validity were checked by TLS before.
 */
import { X509Certificate } from 'node:crypto';
import { AmbitError } from '../core/errors.ts';
import { isSpiffeId, parseSpiffeId, type SpiffeId } from '../core/spiffe.ts';

export interface PeerIdentity {
  readonly identity: SpiffeId;
  /** DER, leaf first, verified. */
  readonly chain: readonly Uint8Array[];
}

/** Bounds on what a peer may present, checked before anything is parsed. */
export const MAX_CHAIN_LENGTH = 8;
export const MAX_CERTIFICATE_BYTES = 16 * 1024;

/** The identity of a chain, or PEER_IDENTITY / TRUST_DOMAIN. `trustDomain`: the one it must belong to, when given. Total. */
export function readPeerIdentity(chain: readonly Uint8Array[], trustDomain?: string): PeerIdentity | AmbitError {
  const leaf = chain[0];
  if (leaf === undefined) return new AmbitError('PEER_IDENTITY', 'the peer sent no certificate');
  if (chain.length > MAX_CHAIN_LENGTH) return new AmbitError('PEER_IDENTITY', 'the certificate chain is too long');
  if (leaf.length > MAX_CERTIFICATE_BYTES) return new AmbitError('PEER_IDENTITY', 'the certificate is too large');
  let names: string[];
  try {
    names = uriNames(new X509Certificate(leaf).subjectAltName ?? '');
  } catch (cause) {
    return new AmbitError('PEER_IDENTITY', 'the certificate cannot be read', { cause });
  }
  const [name] = names;
  if (name === undefined) return new AmbitError('PEER_IDENTITY', 'the certificate has no URI name');
  if (names.length > 1) return new AmbitError('PEER_IDENTITY', 'the certificate has more than one URI name');
  if (!isSpiffeId(name)) return new AmbitError('PEER_IDENTITY', 'the URI name is not a workload identity');
  if (trustDomain !== undefined && parseSpiffeId(name)?.trustDomain !== trustDomain) {
    return new AmbitError('TRUST_DOMAIN', 'the peer belongs to another trust domain');
  }
  return { identity: name, chain };
}

/** The `URI:` entries of Node's text form of subject alternative names; quoted entries are JSON strings. */
export function uriNames(subjectAltName: string): string[] {
  const names: string[] = [];
  let at = 0;
  while (at < subjectAltName.length) {
    const end = entryEnd(subjectAltName, at);
    const entry = subjectAltName.slice(at, end);
    if (entry.startsWith('URI:')) names.push(entry.slice(4));
    at = end + 2;
  }
  return names;
}

/** Index of the `, ` that ends the entry at `start`, skipping a quoted value. */
function entryEnd(text: string, start: number): number {
  let quoted = false;
  for (let index = start; index < text.length; index++) {
    const character = text[index];
    if (quoted && character === '\\') index++;
    else if (character === '"') quoted = !quoted;
    else if (!quoted && character === ',' && text[index + 1] === ' ') return index;
  }
  return text.length;
}
