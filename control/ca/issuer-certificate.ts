/**
 * Certificates of CAs as their leaves must quote them: the subject byte by byte and the key identifier (RFC 5280
 * sections 4.1.2.4 and 4.2.1.1). Reads PEM with one or several certificates. Pure.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { type Issuer, publicHalf } from './certificate.ts';
import { children, decode, encode, members, OID, readBytes, readOid, tagged } from './der.ts';

/** Most certificates in one file: roots of a company and those that went before. */
const MAX_CERTIFICATES = 100;
/** Longest certificate, bytes. */
const MAX_CERTIFICATE_BYTES = 64 * 1024;

export interface ParsedCertificate {
  readonly pem: string;
  readonly x509: X509Certificate;
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----/g;

/** Every certificate of a PEM text, in its order. `what` names the text in errors. Throws CONFIGURATION. */
export function parseCertificates(text: string, what: string): ParsedCertificate[] {
  const blocks = text.match(CERTIFICATE) ?? [];
  const begun = text.split('-----BEGIN CERTIFICATE-----').length - 1;
  if (blocks.length !== begun) throw new AmbitError('CONFIGURATION', `${what} holds a damaged certificate`);
  if (blocks.length > MAX_CERTIFICATES) {
    throw new AmbitError('CONFIGURATION', `${what} holds more than ${MAX_CERTIFICATES} certificates`);
  }
  return blocks.map((block, index) => {
    try {
      const x509 = new X509Certificate(block);
      return { pem: x509.toString(), x509 };
    } catch {
      throw new AmbitError('CONFIGURATION', `certificate ${index + 1} of ${what} cannot be read`);
    }
  });
}

/** The issuer that a CA's certificate and key make. Throws CONFIGURATION when the two do not belong together. */
export function issuerOf(certificate: X509Certificate, privateKey: KeyObject, what: string): Issuer {
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new AmbitError('CONFIGURATION', `${what}: key and certificate do not belong together`);
  }
  const { subject, keyIdentifier } = readSubject(certificate, what);
  return { name: subject, privateKey, publicKey: publicHalf(privateKey), keyIdentifier };
}

/** A private key in PEM. The error never quotes it. Throws CONFIGURATION. */
export function parsePrivateKey(pem: string, what: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // The cause is left out on purpose: it could quote the key.
    throw new AmbitError('CONFIGURATION', `${what} is not a private key in PEM`);
  }
  if (isSigningKey(key)) return key;
  throw new AmbitError('CONFIGURATION', `${what} must be an EC key (P-256, P-384, P-521) or RSA of 2048 to 8192 bits`);
}

function isSigningKey(key: KeyObject): boolean {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'ec') return ['prime256v1', 'secp384r1', 'secp521r1'].includes(namedCurve ?? '');
  return key.asymmetricKeyType === 'rsa' && modulusLength >= 2048 && modulusLength <= 8192;
}

function readSubject(
  certificate: X509Certificate,
  what: string,
): { subject: Buffer; keyIdentifier: Buffer | undefined } {
  try {
    const [toBeSigned] = members(decode(certificate.raw, MAX_CERTIFICATE_BYTES));
    const fields = members(toBeSigned);
    // An absent version (0) shifts what follows; certificates of CAs have version 3.
    const [, , , , , subject] = fields;
    if (tagged(fields, 0) === undefined || subject === undefined) {
      throw new AmbitError('BAD_REQUEST', 'not a version 3 certificate');
    }
    members(subject);
    const extensions = tagged(fields, 3);
    const list = extensions === undefined ? [] : members(children(extensions)[0]);
    const found = list.map(members).find(([id]) => readOid(id) === OID.subjectKeyIdentifier);
    const keyIdentifier = found === undefined ? undefined : readBytes(decode(readBytes(found.at(-1))));
    const bytes = encode(subject);
    if (!certificate.raw.includes(bytes)) throw new AmbitError('BAD_REQUEST', 'its subject is not DER');
    return { subject: bytes, keyIdentifier };
  } catch (thrown) {
    throw new AmbitError('CONFIGURATION', `${what}: ${toAmbitError(thrown, 'BAD_REQUEST').message}`);
  }
}

/** DER of the subject. Throws CONFIGURATION. */
export function subjectOf(certificate: X509Certificate): Buffer {
  return readSubject(certificate, 'a certificate').subject;
}

/** Both name the same subject with the same key: what one has signed, the other vouches for. */
export function sameAuthority(a: X509Certificate, b: X509Certificate): boolean {
  return a.subject === b.subject && a.publicKey.equals(b.publicKey);
}
