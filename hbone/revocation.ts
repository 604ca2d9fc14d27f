/**
 * Which certificates must not be believed any more: revocation lists (RFC 5280 section 5) boiled down to keys of issuer
 * and serial number, and the question whether a verified chain holds one. Lists are read here, not verified: whoever may
 * write the file could as well empty it. The end of a list's time changes nothing.
 *
 * Only what is needed of DER is read (X.690), forwards and with bounds; certificates have been through OpenSSL before.
 */
import { createHash } from 'node:crypto';
import { AmbitError } from '../core/errors.ts';

/** A verdict on a verified chain (DER, leaf first): why it is refused, undefined when it is not. */
export type ChainCheck = (chain: readonly Uint8Array[]) => AmbitError | undefined;

/** All of the file, bytes. */
export const MAX_REVOCATION_BYTES = 8 * 1024 * 1024;

const INTEGER = 0x02;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const SEQUENCE = 0x30;
const VERSION = 0xa0;

interface Value {
  readonly tag: number;
  readonly content: Uint8Array;
  /** With tag and length. */
  readonly whole: Uint8Array;
}

/**
 * The keys of every revoked certificate in a file: lists in PEM (other blocks are skipped) or one in DER. An empty file
 * revokes nothing. Throws DECODE when any list, or the file itself, cannot be read.
 */
export function readRevocations(file: Uint8Array): string[] {
  if (file.length > MAX_REVOCATION_BYTES) throw new AmbitError('DECODE', `longer than ${MAX_REVOCATION_BYTES} bytes`);
  const text = Buffer.from(file.buffer, file.byteOffset, file.length).toString('latin1');
  if (text.trim() === '') return [];
  if (file[0] === SEQUENCE) return revokedIn(file);
  const lists = [...text.matchAll(/-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----/g)];
  const begun = text.split('-----BEGIN X509 CRL-----').length - 1;
  if (lists.length === 0 || lists.length !== begun)
    throw new AmbitError('DECODE', 'no revocation list, or a damaged one');
  return lists.flatMap(([, base64 = '']) => revokedIn(Buffer.from(base64, 'base64')));
}

function revokedIn(der: Uint8Array): string[] {
  const list = only(der, SEQUENCE);
  const fields = values(take(values(list.content)[0], SEQUENCE).content);
  // version (absent means 1), signature, issuer, thisUpdate, nextUpdate (optional), revokedCertificates (optional).
  const start = fields[0]?.tag === INTEGER ? 1 : 0;
  take(fields[start], SEQUENCE);
  const issuer = issuerHash(take(fields[start + 1], SEQUENCE).whole);
  if (!isTime(fields[start + 2])) throw new AmbitError('DECODE', 'the revocation list has no time');
  const revoked = fields[start + (isTime(fields[start + 3]) ? 4 : 3)];
  if (revoked?.tag !== SEQUENCE) return [];
  return values(revoked.content).map((entry) => {
    const [serial] = values(take(entry, SEQUENCE).content);
    return `${issuer} ${serialText(take(serial, INTEGER).content)}`;
  });
}

/** The key of a certificate (DER). Throws DECODE. */
export function certificateKey(der: Uint8Array): string {
  const certificate = only(der, SEQUENCE);
  const fields = values(take(values(certificate.content)[0], SEQUENCE).content);
  const start = fields[0]?.tag === VERSION ? 1 : 0;
  const serial = take(fields[start], INTEGER);
  take(fields[start + 1], SEQUENCE);
  return `${issuerHash(take(fields[start + 2], SEQUENCE).whole)} ${serialText(serial.content)}`;
}

/** The revocations that a worker goes by, and how often they led to a refusal. */
export class Revocations {
  #revoked: ReadonlySet<string> = new Set();
  #problem: string | undefined;

  /** `problem`: why it is not known what is revoked; until it is known nobody is believed. */
  set(keys: readonly string[], problem: string | undefined): void {
    this.#revoked = new Set(keys);
    this.#problem = problem;
  }

  readonly check: ChainCheck = (chain) => {
    if (this.#problem !== undefined) {
      return new AmbitError('CERT_REVOKED', `it is not known what is revoked: ${this.#problem}`);
    }
    if (this.#revoked.size === 0) return undefined;
    try {
      const found = chain.findIndex((certificate) => this.#revoked.has(certificateKey(certificate)));
      if (found < 0) return undefined;
      const which = found === 0 ? 'the certificate of the peer' : 'a CA of the peer';
      return new AmbitError('CERT_REVOKED', `${which} is on the revocation list`);
    } catch (cause) {
      return new AmbitError('CERT_REVOKED', 'the certificates of the peer cannot be looked up', { cause });
    }
  };
}

function isTime(value: Value | undefined): boolean {
  return value?.tag === UTC_TIME || value?.tag === GENERALIZED_TIME;
}

function issuerHash(name: Uint8Array): string {
  return createHash('sha256').update(name).digest('base64url');
}

/** Without leading zeros: the sign byte is not part of a number. */
function serialText(content: Uint8Array): string {
  return Buffer.from(content)
    .toString('hex')
    .replace(/^0+(?=.)/, '');
}

function only(der: Uint8Array, tag: number): Value {
  const all = values(der);
  if (all.length !== 1) throw new AmbitError('DECODE', 'not one DER value');
  return take(all[0], tag);
}

function take(value: Value | undefined, tag: number): Value {
  if (value?.tag !== tag) throw new AmbitError('DECODE', `no DER value of tag ${tag.toString(16)}`);
  return value;
}

/** Every value of a concatenation. */
function values(bytes: Uint8Array): Value[] {
  const found: Value[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at] ?? 0;
    const first = bytes[at + 1];
    if (first === undefined) throw new AmbitError('DECODE', 'DER is cut off');
    const lengthBytes = first < 0x80 ? 0 : first - 0x80;
    if (first === 0x80 || lengthBytes > 4) throw new AmbitError('DECODE', 'a DER length is not possible');
    let length = first < 0x80 ? first : 0;
    for (let index = 0; index < lengthBytes; index++) length = length * 256 + (bytes[at + 2 + index] ?? 0);
    const begin = at + 2 + lengthBytes;
    const end = begin + length;
    if (end > bytes.length) throw new AmbitError('DECODE', 'DER is cut off');
    found.push({ tag, content: bytes.subarray(begin, end), whole: bytes.subarray(at, end) });
    at = end;
  }
  return found;
}
