/**
 * DER building blocks over node-forge's ASN.1 values, and the object identifiers the CA uses (X.690; RFC 5280).
 *
 * node-forge keeps bytes in strings with one byte per character; this file is where they are converted.
 */
import forge from 'node-forge';
import { AmbitError, toAmbitError } from '../../core/errors.ts';

export type Asn1 = forge.asn1.Asn1;

const { asn1 } = forge;
const { UNIVERSAL, CONTEXT_SPECIFIC } = asn1.Class;

/** Longest structure that is read, bytes. */
export const MAX_DER_BYTES = 16 * 1024;

export const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  p256: '1.2.840.10045.3.1.7',
  p384: '1.3.132.0.34',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  ecdsaWithSha384: '1.2.840.10045.4.3.3',
  ecdsaWithSha512: '1.2.840.10045.4.3.4',
  sha256WithRsa: '1.2.840.113549.1.1.11',
  sha384WithRsa: '1.2.840.113549.1.1.12',
  sha512WithRsa: '1.2.840.113549.1.1.13',
} as const;

export function sequence(...values: Asn1[]): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.SEQUENCE, true, values);
}

export function set(...values: Asn1[]): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.SET, true, values);
}

export function oid(identifier: string): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.OID, false, asn1.oidToDer(identifier).getBytes());
}

export function boolean(value: boolean): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.BOOLEAN, false, value ? '\xff' : '\x00');
}

/** NULL: the parameters of RSA signature algorithms. */
export function nothing(): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.NULL, false, '');
}

/** A non-negative integer of big-endian bytes. */
export function integer(bytes: Uint8Array): Asn1 {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const rest = toBinary(bytes.subarray(start));
  return asn1.create(UNIVERSAL, asn1.Type.INTEGER, false, rest.charCodeAt(0) >= 0x80 ? `\x00${rest}` : rest);
}

export function octetString(bytes: Uint8Array): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.OCTETSTRING, false, toBinary(bytes));
}

/** `unusedBits` of the last byte are not part of the string. */
export function bitString(bytes: Uint8Array, unusedBits = 0): Asn1 {
  const content = String.fromCharCode(unusedBits) + toBinary(bytes);
  return asn1.create(UNIVERSAL, asn1.Type.BITSTRING, false, content);
}

export function utf8(text: string): Asn1 {
  return asn1.create(UNIVERSAL, asn1.Type.UTF8, false, toBinary(Buffer.from(text, 'utf8')));
}

/** A time as RFC 5280 section 4.1.2.5 wants it: UTCTime before 2050, GeneralizedTime from then on. Seconds precision. */
export function time(ms: number): Asn1 {
  const date = new Date(ms);
  const early = date.getUTCFullYear() < 2050;
  const type = early ? asn1.Type.UTCTIME : asn1.Type.GENERALIZEDTIME;
  return asn1.create(UNIVERSAL, type, false, early ? asn1.dateToUtcTime(date) : asn1.dateToGeneralizedTime(date));
}

/** `[tag]` around whole values. */
export function explicit(tag: number, ...values: Asn1[]): Asn1 {
  return asn1.create(CONTEXT_SPECIFIC, tag, true, values);
}

/** `[tag]` in place of the type of a primitive value. */
export function implicit(tag: number, bytes: Uint8Array): Asn1 {
  return asn1.create(CONTEXT_SPECIFIC, tag, false, toBinary(bytes));
}

export function encode(value: Asn1): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), 'latin1');
}

/** Reads exactly one value of at most `maxBytes`. Throws BAD_REQUEST for anything else. Bit strings stay raw. */
export function decode(bytes: Uint8Array, maxBytes = MAX_DER_BYTES): Asn1 {
  if (bytes.length > maxBytes) throw new AmbitError('BAD_REQUEST', `longer than ${maxBytes} bytes`);
  try {
    const options = { strict: true, parseAllBytes: true, decodeBitStrings: false };
    // @ts-expect-error the declarations know only the boolean form of the options
    return asn1.fromDer(forge.util.createBuffer(toBinary(bytes)), options);
  } catch (thrown) {
    throw new AmbitError('BAD_REQUEST', `not DER: ${toAmbitError(thrown, 'BAD_REQUEST').message.slice(0, 200)}`);
  }
}

export function isSequence(value: Asn1 | undefined): value is Asn1 {
  return value?.type === asn1.Type.SEQUENCE && value.tagClass === UNIVERSAL && Array.isArray(value.value);
}

/** The members of a SEQUENCE. Throws BAD_REQUEST when it is none. */
export function members(value: Asn1 | undefined): Asn1[] {
  if (value?.type !== asn1.Type.SEQUENCE || value.tagClass !== UNIVERSAL || !Array.isArray(value.value)) {
    throw new AmbitError('BAD_REQUEST', 'a SEQUENCE is missing');
  }
  return value.value;
}

/** The dotted text of an OBJECT IDENTIFIER. Throws BAD_REQUEST when it is none. */
export function readOid(value: Asn1 | undefined): string {
  if (value?.type !== asn1.Type.OID || value.tagClass !== UNIVERSAL || typeof value.value !== 'string') {
    throw new AmbitError('BAD_REQUEST', 'an OBJECT IDENTIFIER is missing');
  }
  return asn1.derToOid(value.value);
}

/** The bytes of a BIT STRING without unused bits. Throws BAD_REQUEST when it is none. */
export function readBitString(value: Asn1 | undefined): Buffer {
  if (value?.type !== asn1.Type.BITSTRING || value.tagClass !== UNIVERSAL || typeof value.value !== 'string') {
    throw new AmbitError('BAD_REQUEST', 'a BIT STRING is missing');
  }
  if (value.value.charCodeAt(0) !== 0) throw new AmbitError('BAD_REQUEST', 'a BIT STRING is not whole bytes');
  return Buffer.from(value.value.slice(1), 'latin1');
}

/** The value inside `[tag]` among the members of a SEQUENCE; undefined when there is none. */
export function tagged(values: readonly Asn1[], tag: number): Asn1 | undefined {
  return values.find((value) => value.tagClass === CONTEXT_SPECIFIC && value.type === tag);
}

/** The values in a constructed value of any tag. Throws BAD_REQUEST when it is primitive. */
export function children(value: Asn1 | undefined): Asn1[] {
  if (!Array.isArray(value?.value)) throw new AmbitError('BAD_REQUEST', 'a constructed value is missing');
  return value.value;
}

/** The bytes of an INTEGER or OCTET STRING as they stand. Throws BAD_REQUEST when it is neither. */
export function readBytes(value: Asn1 | undefined): Buffer {
  const known = value?.type === asn1.Type.INTEGER || value?.type === asn1.Type.OCTETSTRING;
  if (value === undefined || !known || value.tagClass !== UNIVERSAL || typeof value.value !== 'string') {
    throw new AmbitError('BAD_REQUEST', 'an INTEGER or OCTET STRING is missing');
  }
  return Buffer.from(value.value, 'latin1');
}

/** Milliseconds since the epoch of a UTCTime or GeneralizedTime; undefined for any other value. */
export function readTime(value: Asn1 | undefined): number | undefined {
  if (value?.tagClass !== UNIVERSAL || typeof value.value !== 'string') return undefined;
  if (value.type === asn1.Type.UTCTIME) return asn1.utcTimeToDate(value.value).getTime();
  if (value.type === asn1.Type.GENERALIZEDTIME) return asn1.generalizedTimeToDate(value.value).getTime();
  return undefined;
}

function toBinary(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
