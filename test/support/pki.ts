/**
 * Certificates for tests, made in memory: P-256 roots, intermediates and leaves with a SPIFFE URI, any validity. The DER is
 * written by hand (RFC 5280 section 4.1), so that tests can also make certificates no sensible tool would.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export interface TestAuthority {
  readonly pem: string;
  /** The issuing certificates between leaf and root, PEM, empty for a root. */
  readonly chainPem: string;
  /** Signs a leaf. */
  issue(options?: LeafOptions): TestLeaf;
  /** A further authority below this one. */
  intermediate(name: string): TestAuthority;
}

export interface LeafOptions {
  /** URI subject alternative names; default one workload. */
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** IPv4, dotted. */
  readonly ipAddresses?: readonly string[];
  /** The subject, by default empty: to a Kubernetes API server a user with groups. */
  readonly commonName?: string;
  readonly organizations?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

export interface TestLeaf {
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
}

const HOUR_MS = 3_600_000;

export function createAuthority(name = 'test root'): TestAuthority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const der = certificate({
    subject: name,
    issuer: name,
    publicKey: keys.publicKey,
    signer: keys.privateKey,
    ca: true,
  });
  return authority(name, keys.privateKey, toPem('CERTIFICATE', der), '');
}

function authority(name: string, key: KeyObject, pem: string, chainPem: string): TestAuthority {
  return {
    pem,
    chainPem,
    issue(options = {}) {
      const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const der = certificate({
        subject: options.commonName ?? '',
        issuer: name,
        publicKey: keys.publicKey,
        signer: key,
        ca: false,
        ...options,
      });
      return {
        certificateChainPem: toPem('CERTIFICATE', der) + chainPem,
        privateKeyPem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      };
    },
    intermediate(subject) {
      const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const der = certificate({ subject, issuer: name, publicKey: keys.publicKey, signer: key, ca: true });
      const own = toPem('CERTIFICATE', der);
      return authority(subject, keys.privateKey, own, own + chainPem);
    },
  };
}

interface CertificateFields extends LeafOptions {
  readonly subject: string;
  readonly issuer: string;
  readonly publicKey: KeyObject;
  readonly signer: KeyObject;
  readonly ca: boolean;
}

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const UTF8_STRING = 0x0c;
const GENERALIZED_TIME = 0x18;
const ECDSA_WITH_SHA256 = der(SEQUENCE, der(OBJECT_IDENTIFIER, Buffer.from('2a8648ce3d040302', 'hex')));
const TRUE = Buffer.from('0101ff', 'hex');

function certificate(fields: CertificateFields): Buffer {
  const now = Date.now();
  const body = der(
    SEQUENCE,
    der(0xa0, der(INTEGER, Buffer.from([2]))),
    der(INTEGER, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ECDSA_WITH_SHA256,
    name(fields.issuer),
    der(
      SEQUENCE,
      time(fields.notBefore ?? new Date(now - HOUR_MS)),
      time(fields.notAfter ?? new Date(now + 24 * HOUR_MS)),
    ),
    name(fields.subject, fields.organizations),
    fields.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(SEQUENCE, ...extensions(fields))),
  );
  const signature = sign('sha256', body, fields.signer);
  return der(SEQUENCE, body, ECDSA_WITH_SHA256, der(BIT_STRING, Buffer.from([0]), signature));
}

function extensions(fields: CertificateFields): Buffer[] {
  if (fields.ca)
    return [extension('551d13', true, der(SEQUENCE, TRUE)), extension('551d0f', true, Buffer.from('03020106', 'hex'))];
  const uris = fields.uris ?? ['spiffe://cluster.local/ns/default/sa/test'];
  const usages = ['2b06010505070301', '2b06010505070302'].map((oid) => der(OBJECT_IDENTIFIER, Buffer.from(oid, 'hex')));
  const list = [
    extension('551d0f', true, Buffer.from('03020780', 'hex')),
    extension('551d25', false, der(SEQUENCE, ...usages)),
  ];
  const names = [
    ...uris.map((uri) => der(0x86, Buffer.from(uri))),
    ...(fields.dnsNames ?? []).map((dns) => der(0x82, Buffer.from(dns))),
    ...(fields.ipAddresses ?? []).map((ip) => der(0x87, Buffer.from(ip.split('.').map(Number)))),
  ];
  if (names.length > 0) list.push(extension('551d11', fields.subject === '', der(SEQUENCE, ...names)));
  return list;
}

function extension(oid: string, critical: boolean, value: Buffer): Buffer {
  const parts = [der(OBJECT_IDENTIFIER, Buffer.from(oid, 'hex'))];
  if (critical) parts.push(TRUE);
  return der(SEQUENCE, ...parts, der(OCTET_STRING, value));
}

function name(commonName: string, organizations: readonly string[] = []): Buffer {
  const parts = organizations.map((organization) => attribute('55040a', organization));
  if (commonName !== '') parts.push(attribute('550403', commonName));
  return der(SEQUENCE, ...parts);
}

function attribute(oid: string, text: string): Buffer {
  const value = der(UTF8_STRING, Buffer.from(text));
  return der(SET, der(SEQUENCE, der(OBJECT_IDENTIFIER, Buffer.from(oid, 'hex')), value));
}

function time(date: Date): Buffer {
  return der(GENERALIZED_TIME, Buffer.from(`${date.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`));
}

function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const length = content.length;
  const head =
    length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from(head), content]);
}

function toPem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
