/**
 * X.509 version 3 certificates (RFC 5280): roots, workload leaves (SPIFFE X.509-SVID) and server certificates.
 *
 * node-forge encodes the structure, node:crypto signs it. The caller decides times, names and keys; nothing here is
 * random but the serial number.
 */
import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { ipToBytes, parseIp } from '../../core/ip.ts';
import {
  type Asn1,
  bitString,
  boolean,
  decode,
  encode,
  explicit,
  implicit,
  integer,
  members,
  nothing,
  OID,
  octetString,
  oid,
  readBitString,
  sequence,
  set,
  time,
  utf8,
} from './der.ts';

export interface Validity {
  /** Milliseconds since the epoch, both inclusive, cut to whole seconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export type SubjectAltName = { readonly kind: 'uri' | 'dns' | 'ip'; readonly value: string };

export interface Issuer {
  /** Or the DER of a name that somebody else has encoded: an issuer's name must be repeated byte by byte. */
  readonly name: DistinguishedName | Uint8Array;
  /** Signs: EC P-256, P-384 or P-521, or RSA. */
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** The subject key identifier in the issuer's certificate; undefined: that of the key. */
  readonly keyIdentifier?: Uint8Array | undefined;
}

export interface DistinguishedName {
  readonly organization: string;
  readonly commonName: string;
}

export interface SignedCertificate {
  readonly pem: string;
  /** Upper case hexadecimal, as OpenSSL prints it. */
  readonly serial: string;
}

/** A self-signed root that may sign leaves and revocation lists but no other CA. */
export function signRoot(issuer: Issuer, validity: Validity): SignedCertificate {
  return signCertificate(issuer, issuer.name, issuer.publicKey, validity, [
    extension(OID.basicConstraints, true, sequence(boolean(true), integer(Uint8Array.of(0)))),
    extension(OID.keyUsage, true, keyUsage([KEY_CERT_SIGN, CRL_SIGN])),
  ]);
}

/**
 * A leaf for both ends of mutual TLS. Without a subject, so its names are critical (RFC 5280 section 4.1.2.6). An EC
 * key must not claim key encipherment (RFC 8813 section 3).
 */
export function signLeaf(
  issuer: Issuer,
  publicKey: KeyObject,
  names: readonly SubjectAltName[],
  validity: Validity,
): SignedCertificate {
  const usages = publicKey.asymmetricKeyType === 'rsa' ? [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT] : [DIGITAL_SIGNATURE];
  return signCertificate(issuer, undefined, publicKey, validity, [
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.keyUsage, true, keyUsage(usages)),
    extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    extension(OID.subjectAltName, true, sequence(...names.map(generalName))),
  ]);
}

function signCertificate(
  issuer: Issuer,
  subject: Issuer['name'] | undefined,
  publicKey: KeyObject,
  validity: Validity,
  extensions: Asn1[],
): SignedCertificate {
  const serial = serialNumber();
  const { digest, algorithm } = signatureOf(issuer.privateKey);
  const subjectKey = publicKey.export({ type: 'spki', format: 'der' });
  const issuerKeyId = issuer.keyIdentifier ?? keyIdentifier(issuer.publicKey.export({ type: 'spki', format: 'der' }));
  const toBeSigned = sequence(
    explicit(0, integer(Uint8Array.of(2))),
    integer(serial),
    algorithm,
    distinguishedName(issuer.name),
    sequence(time(validity.notBeforeMs), time(validity.notAfterMs)),
    subject === undefined ? sequence() : distinguishedName(subject),
    decode(subjectKey),
    explicit(
      3,
      sequence(
        ...extensions,
        extension(OID.subjectKeyIdentifier, false, octetString(keyIdentifier(subjectKey))),
        extension(OID.authorityKeyIdentifier, false, sequence(implicit(0, issuerKeyId))),
      ),
    ),
  );
  const signature = sign(digest, encode(toBeSigned), issuer.privateKey);
  const der = encode(sequence(toBeSigned, algorithm, bitString(signature)));
  return { pem: toPem('CERTIFICATE', der), serial: serial.toString('hex').toUpperCase() };
}

/** Digest and AlgorithmIdentifier of an issuer's signatures (RFC 5758 section 3.2, RFC 4055 section 5). */
function signatureOf(key: KeyObject): { digest: string; algorithm: Asn1 } {
  if (key.asymmetricKeyType === 'rsa') {
    return { digest: 'sha256', algorithm: sequence(oid(OID.sha256WithRsa), nothing()) };
  }
  switch (key.asymmetricKeyDetails?.namedCurve) {
    case 'secp384r1':
      return { digest: 'sha384', algorithm: sequence(oid(OID.ecdsaWithSha384)) };
    case 'secp521r1':
      return { digest: 'sha512', algorithm: sequence(oid(OID.ecdsaWithSha512)) };
    default:
      return { digest: 'sha256', algorithm: sequence(oid(OID.ecdsaWithSha256)) };
  }
}

export function toPem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The public half of a private key. */
export function publicHalf(privateKey: KeyObject): KeyObject {
  return createPublicKey(privateKey);
}

/** 127 random bits: positive, never zero, at most 16 bytes. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes;
}

/** SHA-1 of the key bits (RFC 5280 section 4.2.1.2 method 1). An identifier, not a security measure. */
function keyIdentifier(spki: Uint8Array): Buffer {
  const [, keyBits] = members(decode(spki));
  return createHash('sha1').update(readBitString(keyBits)).digest();
}

function distinguishedName(name: Issuer['name']): Asn1 {
  if (name instanceof Uint8Array) return decode(name);
  return sequence(
    set(sequence(oid(OID.organization), utf8(name.organization))),
    set(sequence(oid(OID.commonName), utf8(name.commonName))),
  );
}

function extension(id: string, critical: boolean, value: Asn1): Asn1 {
  const body = octetString(encode(value));
  return critical ? sequence(oid(id), boolean(true), body) : sequence(oid(id), body);
}

// Bit numbers of KeyUsage (RFC 5280 section 4.2.1.3).
const DIGITAL_SIGNATURE = 0;
const KEY_ENCIPHERMENT = 2;
const KEY_CERT_SIGN = 5;
const CRL_SIGN = 6;

function keyUsage(bits: readonly number[]): Asn1 {
  let byte = 0;
  for (const bit of bits) byte |= 0x80 >> bit;
  const unused = 7 - Math.max(...bits);
  return bitString(Uint8Array.of(byte), unused);
}

/** Context tags of GeneralName (RFC 5280 section 4.2.1.6). */
function generalName(name: SubjectAltName): Asn1 {
  switch (name.kind) {
    case 'dns':
      return implicit(2, Buffer.from(name.value, 'ascii'));
    case 'uri':
      return implicit(6, Buffer.from(name.value, 'ascii'));
    case 'ip': {
      const ip = parseIp(name.value);
      return implicit(7, ip === undefined ? Buffer.alloc(0) : ipToBytes(ip));
    }
  }
}
