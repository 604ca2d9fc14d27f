/**
 * A fresh P-256 key and the certificate request for it (RFC 2986): empty subject, one critical subject alternative name
 * with the SPIFFE identity as URI (X.509-SVID section 2), signed with SHA-256. The key never leaves this process.
 *
 * The request is the same few nested values every time, so they are written here as DER (ITU-T X.690) directly: an ASN.1
 * library would cost every agent four megabytes. Nothing is parsed.
 */
import { generateKeyPairSync, sign } from 'node:crypto';
import type { SpiffeId } from '../../core/spiffe.ts';

const BOOLEAN = 0x01;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const SEQUENCE = 0x30;
const SET = 0x31;
/** `attributes` of CertificationRequestInfo. */
const ATTRIBUTES = 0xa0;
/** `uniformResourceIdentifier` of GeneralName (RFC 5280 section 4.2.1.6). */
const URI = 0x86;

/** Contents of object identifiers, encoded. */
const EXTENSION_REQUEST = Buffer.from('2a864886f70d01090e', 'hex'); // 1.2.840.113549.1.9.14
const SUBJECT_ALT_NAME = Buffer.from('551d11', 'hex'); // 2.5.29.17
const ECDSA_WITH_SHA256 = Buffer.from('2a8648ce3d040302', 'hex'); // 1.2.840.10045.4.3.2

export interface CertificateRequest {
  readonly csrPem: string;
  /** PKCS#8. */
  readonly privateKeyPem: string;
}

export function createCertificateRequest(identity: SpiffeId): CertificateRequest {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const information = der(
    SEQUENCE,
    der(INTEGER, Buffer.of(0)),
    der(SEQUENCE),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(ATTRIBUTES, extensionRequest(identity)),
  );
  const signature = sign('sha256', information, privateKey);
  const request = der(
    SEQUENCE,
    information,
    der(SEQUENCE, der(OBJECT_IDENTIFIER, ECDSA_WITH_SHA256)),
    der(BIT_STRING, Buffer.of(0), signature),
  );
  return {
    csrPem: toPem('CERTIFICATE REQUEST', request),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
}

function extensionRequest(identity: SpiffeId): Buffer {
  const names = der(SEQUENCE, der(URI, Buffer.from(identity, 'ascii')));
  const extension = der(
    SEQUENCE,
    der(OBJECT_IDENTIFIER, SUBJECT_ALT_NAME),
    der(BOOLEAN, Buffer.of(0xff)),
    der(OCTET_STRING, names),
  );
  return der(SEQUENCE, der(OBJECT_IDENTIFIER, EXTENSION_REQUEST), der(SET, der(SEQUENCE, extension)));
}

/** One value: tag, length in as few bytes as it takes, content. Contents here stay below 64 KiB. */
function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

function toPem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
