/**
 * Certificate requests (PKCS#10, RFC 2986) of callers: only the public key counts, after its signature was checked.
 * Subject, names and extensions of a request are never read. Total: any text gives a key or BAD_REQUEST.
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { AmbitError } from '../../core/errors.ts';
import { type Asn1, decode, encode, MAX_DER_BYTES, members, OID, readBitString, readOid } from './der.ts';

/** Digest and key type of the accepted signature algorithms. */
const SIGNATURES: ReadonlyMap<string, { readonly digest: string; readonly keyType: 'ec' | 'rsa' }> = new Map([
  [OID.ecdsaWithSha256, { digest: 'sha256', keyType: 'ec' }],
  [OID.ecdsaWithSha384, { digest: 'sha384', keyType: 'ec' }],
  [OID.ecdsaWithSha512, { digest: 'sha512', keyType: 'ec' }],
  [OID.sha256WithRsa, { digest: 'sha256', keyType: 'rsa' }],
  [OID.sha384WithRsa, { digest: 'sha384', keyType: 'rsa' }],
  [OID.sha512WithRsa, { digest: 'sha512', keyType: 'rsa' }],
]);

/** Named curves only: a key with curve parameters of its own can be made to look like somebody else's. */
const CURVES: ReadonlySet<string> = new Set([OID.p256, OID.p384]);
/** Bits; the upper bound keeps the check of a signature cheap. */
const RSA_BITS = { minimum: 2048, maximum: 8192 };
const RSA_EXPONENT = 65_537n;

/** The key the requester has proved to own. */
export function readCertificateRequest(pem: string): KeyObject {
  const [info, algorithm, signature] = exactly(3, members(decode(fromPem(pem))));
  const [, , publicKeyInfo] = members(info);
  if (publicKeyInfo === undefined) throw new AmbitError('BAD_REQUEST', 'the request has no key');
  const [algorithmId] = members(algorithm);
  const scheme = SIGNATURES.get(readOid(algorithmId));
  if (scheme === undefined)
    throw new AmbitError('BAD_REQUEST', 'the signature algorithm of the request is not accepted');
  const key = readPublicKey(publicKeyInfo);
  if (key.asymmetricKeyType !== scheme.keyType) {
    throw new AmbitError('BAD_REQUEST', 'the signature algorithm of the request does not fit its key');
  }
  // DER has one encoding: what is encoded again from the parsed values are the bytes that were signed, or no match.
  if (info === undefined || !verifies(scheme.digest, encode(info), key, readBitString(signature))) {
    throw new AmbitError('BAD_REQUEST', 'the signature of the request is wrong');
  }
  return key;
}

function readPublicKey(publicKeyInfo: Asn1): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: encode(publicKeyInfo), format: 'der', type: 'spki' });
  } catch (thrown) {
    throw new AmbitError('BAD_REQUEST', 'the key of the request cannot be read', { cause: thrown });
  }
  const details = key.asymmetricKeyDetails;
  const [algorithm] = members(publicKeyInfo);
  if (key.asymmetricKeyType === 'ec' && CURVES.has(readOid(members(algorithm)[1]))) return key;
  const bits = details?.modulusLength ?? 0;
  const sound = bits >= RSA_BITS.minimum && bits <= RSA_BITS.maximum && details?.publicExponent === RSA_EXPONENT;
  if (key.asymmetricKeyType === 'rsa' && sound) return key;
  throw new AmbitError('BAD_REQUEST', 'the key must be EC P-256 or P-384, or RSA of 2048 to 8192 bits');
}

const PEM =
  /^-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END (?:NEW )?CERTIFICATE REQUEST-----\s*$/;

function fromPem(pem: string): Buffer {
  if (pem.length > MAX_DER_BYTES * 1.5) throw new AmbitError('BAD_REQUEST', 'the request is too long');
  const match = PEM.exec(pem.trimStart());
  if (match?.[1] === undefined) throw new AmbitError('BAD_REQUEST', 'not one CERTIFICATE REQUEST in PEM');
  return Buffer.from(match[1], 'base64');
}

function exactly<T>(count: number, values: readonly T[]): readonly T[] {
  if (values.length !== count) throw new AmbitError('BAD_REQUEST', 'the request does not have its three parts');
  return values;
}

function verifies(digest: string, signed: Buffer, key: KeyObject, signature: Buffer): boolean {
  try {
    return verify(digest, signed, key, signature);
  } catch {
    // OpenSSL refuses some malformed signatures with an error instead of a verdict.
    return false;
  }
}
