/**
 * Revocation lists of X.509 certificates (RFC 5280 section 5): read, checked against the CAs that we know, and asked.
 * A list that cannot be read, is not signed by a known CA or would come into force only later is an error: an
 * enforcement that quietly sees nothing would be worse than none. One whose time is over still counts. Pure.
 */
import { verify, type X509Certificate } from 'node:crypto';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import {
  type Asn1,
  children,
  decode,
  encode,
  isSequence,
  members,
  OID,
  readBitString,
  readBytes,
  readOid,
  readTime,
} from './der.ts';
import { type ParsedCertificate, subjectOf } from './issuer-certificate.ts';

/** Longest list, bytes of DER: it has to fit into a ConfigMap. */
export const MAX_REVOCATION_LIST_BYTES = 1024 * 1024;
const MAX_LISTS = 50;

const DIGESTS: ReadonlyMap<string, string> = new Map([
  [OID.ecdsaWithSha256, 'sha256'],
  [OID.ecdsaWithSha384, 'sha384'],
  [OID.ecdsaWithSha512, 'sha512'],
  [OID.sha256WithRsa, 'sha256'],
  [OID.sha384WithRsa, 'sha384'],
  [OID.sha512WithRsa, 'sha512'],
]);

export interface RevocationList {
  /** DER of the name of the CA that it is about. */
  readonly issuer: Buffer;
  /** Upper case hexadecimal without leading zeros. */
  readonly serials: ReadonlySet<string>;
  /** When the next one is due, milliseconds since the epoch; undefined where it does not say. */
  readonly nextUpdateMs: number | undefined;
}

const LIST = /-----BEGIN X509 CRL-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END X509 CRL-----/g;

/** Reads every list of a PEM text; an empty text has none. `what` names the text in errors. Throws CONFIGURATION. */
export function parseRevocationLists(
  pem: string,
  authorities: readonly ParsedCertificate[],
  what: string,
): RevocationList[] {
  const blocks = [...pem.matchAll(LIST)];
  const begun = pem.split('-----BEGIN').length - 1;
  if (blocks.length !== begun || (begun === 0 && pem.trim() !== '')) {
    throw new AmbitError('CONFIGURATION', `${what} holds something else than revocation lists in PEM`);
  }
  if (blocks.length > MAX_LISTS) throw new AmbitError('CONFIGURATION', `${what} holds more than ${MAX_LISTS} lists`);
  return blocks.map(([, base64 = ''], index) => {
    try {
      return parseList(Buffer.from(base64, 'base64'), authorities);
    } catch (thrown) {
      const reason = toAmbitError(thrown, 'CONFIGURATION').message;
      throw new AmbitError('CONFIGURATION', `list ${index + 1} of ${what}: ${reason}`);
    }
  });
}

function parseList(der: Buffer, authorities: readonly ParsedCertificate[]): RevocationList {
  const [body, algorithm, signature] = members(decode(der, MAX_REVOCATION_LIST_BYTES));
  if (body === undefined) throw new AmbitError('CONFIGURATION', 'it is empty');
  const signed = encode(body);
  if (!der.includes(signed)) throw new AmbitError('CONFIGURATION', 'it is not DER');
  const fields = members(body);
  // version (absent means 1), signature, issuer, thisUpdate, nextUpdate (optional), revokedCertificates (optional).
  const start = isSequence(fields[0]) ? 0 : 1;
  const issuerName = fields[start + 1];
  if (issuerName === undefined) throw new AmbitError('CONFIGURATION', 'it names no issuer');
  const issuer = encode(issuerName);
  const digest = DIGESTS.get(readOid(members(algorithm)[0]));
  if (digest === undefined) throw new AmbitError('CONFIGURATION', 'its signature algorithm is not accepted');
  const bytes = readBitString(signature);
  const known = authorities.filter(({ x509 }) => subjectOf(x509).equals(issuer));
  if (!known.some(({ x509 }) => verify(digest, signed, x509.publicKey, bytes))) {
    throw new AmbitError('CONFIGURATION', 'no CA of the chain or of the trusted roots has signed it');
  }
  const nextUpdateMs = readTime(fields[start + 3]);
  const revoked = fields[start + (nextUpdateMs === undefined ? 3 : 4)];
  const entries = isSequence(revoked) ? members(revoked) : [];
  return { issuer, serials: new Set(entries.map(serialOf)), nextUpdateMs };
}

function serialOf(entry: Asn1): string {
  return hexOf(readBytes(children(entry)[0]).toString('hex'));
}

function hexOf(serial: string): string {
  return serial.toUpperCase().replace(/^0+(?=.)/, '');
}

/**
 * Why the certificate, or a CA between it and the roots (looked for among `authorities`), is revoked; undefined: it is
 * not, as far as these lists say.
 */
export function findRevocation(
  certificate: X509Certificate,
  lists: readonly RevocationList[],
  authorities: readonly ParsedCertificate[],
): string | undefined {
  let current = certificate;
  for (let depth = 0; depth <= authorities.length; depth++) {
    const child = current;
    const issuer = issuerNameOf(child, authorities);
    const serial = hexOf(child.serialNumber);
    if (issuer !== undefined && lists.some((list) => list.issuer.equals(issuer.name) && list.serials.has(serial))) {
      return `revoked (serial ${serial})`;
    }
    if (issuer === undefined || issuer.x509.fingerprint256 === child.fingerprint256) return undefined;
    current = issuer.x509;
  }
  return undefined;
}

function issuerNameOf(
  certificate: X509Certificate,
  authorities: readonly ParsedCertificate[],
): { name: Buffer; x509: X509Certificate } | undefined {
  const found = authorities.find(({ x509 }) => certificate.checkIssued(x509) && certificate.verify(x509.publicKey));
  return found === undefined ? undefined : { name: subjectOf(found.x509), x509: found.x509 };
}
