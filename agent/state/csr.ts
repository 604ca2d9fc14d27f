/**
 * A fresh P-256 key and the certificate request for it (RFC 2986): empty subject, one critical subject alternative name
 * with the SPIFFE identity as URI (X.509-SVID section 2), signed with SHA-256. The key never leaves this process.
 */
import { generateKeyPairSync, sign } from 'node:crypto';
import forge from 'node-forge';
import type { SpiffeId } from '../../core/spiffe.ts';

const { asn1 } = forge;
const { Class, Type } = asn1;

const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
const SUBJECT_ALT_NAME = '2.5.29.17';
const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';
/** Tag of `uniformResourceIdentifier` in GeneralName (RFC 5280 section 4.2.1.6). */
const URI_TAG = 6;

export interface CertificateRequest {
  readonly csrPem: string;
  /** PKCS#8. */
  readonly privateKeyPem: string;
}

export function createCertificateRequest(identity: SpiffeId): CertificateRequest {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicKeyInfo = asn1.fromDer(publicKey.export({ type: 'spki', format: 'der' }).toString('latin1'));
  const information = sequence([
    asn1.create(Class.UNIVERSAL, Type.INTEGER, false, '\0'),
    sequence([]),
    publicKeyInfo,
    asn1.create(Class.CONTEXT_SPECIFIC, 0, true, [extensionRequest(identity)]),
  ]);
  const signature = sign('sha256', toBytes(information), privateKey);
  const request = sequence([
    information,
    sequence([objectIdentifier(ECDSA_WITH_SHA256)]),
    asn1.create(Class.UNIVERSAL, Type.BITSTRING, false, `\0${signature.toString('latin1')}`),
  ]);
  return {
    csrPem: toPem('CERTIFICATE REQUEST', toBytes(request)),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
}

function extensionRequest(identity: SpiffeId): forge.asn1.Asn1 {
  const names = sequence([asn1.create(Class.CONTEXT_SPECIFIC, URI_TAG, false, identity)]);
  const extension = sequence([
    objectIdentifier(SUBJECT_ALT_NAME),
    asn1.create(Class.UNIVERSAL, Type.BOOLEAN, false, '\xff'),
    asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, asn1.toDer(names).getBytes()),
  ]);
  return sequence([
    objectIdentifier(EXTENSION_REQUEST),
    asn1.create(Class.UNIVERSAL, Type.SET, true, [sequence([extension])]),
  ]);
}

function sequence(values: forge.asn1.Asn1[]): forge.asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, values);
}

function objectIdentifier(dotted: string): forge.asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(dotted).getBytes());
}

function toBytes(value: forge.asn1.Asn1): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), 'latin1');
}

function toPem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
