/**
 * The roots that this CA has made itself, as text: which there are and when each signs, their keys apart from that. The
 * folder and the Secret keep the same text. Pure but for the making of keys.
 */
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { decode, integer, list, object, string, text } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import { signRoot } from './certificate.ts';
import { issuerOf, type ParsedCertificate, parseCertificates, parsePrivateKey } from './issuer-certificate.ts';
import { CLOCK_SKEW_MS, type Signer } from './root-store.ts';

const rootList = object(
  {
    version: integer(1, 1),
    organization: string,
    roots: list(
      object(
        {
          id: text('16 hexadecimal digits', (value) => (/^[0-9a-f]{16}$/.test(value) ? value : undefined)),
          certificatePem: string,
          signsFromMs: integer(0, Number.MAX_SAFE_INTEGER),
        },
        'refuse',
      ),
    ),
  },
  'refuse',
);

/** The list of the roots without their keys. `organization`: the trust domain they belong to. */
export function formatRootList(roots: readonly Signer[], organization: string): string {
  const entries = roots.map(({ id, certificatePem, signsFromMs }) => ({ id, certificatePem, signsFromMs }));
  return `${JSON.stringify({ version: 1, organization, roots: entries }, undefined, 2)}\n`;
}

/**
 * Reads such a list. `keyOf` gives the PEM of a key, undefined where it is missing; `where` names the list in errors.
 * Throws CONFIGURATION for a damaged list, a missing key, or the roots of another trust domain.
 */
export function parseRootList(
  raw: string,
  organization: string,
  keyOf: (id: string) => { readonly pem: string | undefined; readonly where: string },
  where: string,
): Signer[] {
  const decoded = decode(rootList, parseJson(raw, where));
  if (!decoded.ok) throw new AmbitError('CONFIGURATION', `${where} is damaged: ${decoded.problems[0]?.reason}`);
  if (decoded.value.organization !== organization) {
    const found = decoded.value.organization;
    throw new AmbitError('CONFIGURATION', `${where} belongs to the trust domain ${found}, not ${organization}`);
  }
  return decoded.value.roots.map(({ id, certificatePem, signsFromMs }) => {
    const key = keyOf(id);
    if (key.pem === undefined) throw new AmbitError('CONFIGURATION', `the key of a root is missing: ${key.where}`);
    return readRoot(id, certificatePem, key.pem, signsFromMs, key.where);
  });
}

/** A root of its texts. `where` names the key in errors, which never quote it. */
export function readRoot(
  id: string,
  certificatePem: string,
  keyPem: string,
  signsFromMs: number,
  where: string,
): Signer {
  const [certificate, ...others] = parseCertificates(certificatePem, `root ${id}`);
  if (certificate === undefined || others.length > 0 || !certificate.x509.ca) {
    throw new AmbitError('CONFIGURATION', `root ${id} is not one certificate of a CA`);
  }
  const issuer = issuerOf(certificate.x509, parsePrivateKey(keyPem, `the key of a root (${where})`), `root ${id}`);
  return {
    id,
    certificatePem,
    issuer,
    chain: [],
    rootPem: certificatePem,
    notBeforeMs: certificate.x509.validFromDate.getTime(),
    notAfterMs: certificate.x509.validToDate.getTime(),
    rootNotAfterMs: certificate.x509.validToDate.getTime(),
    signsFromMs,
  };
}

/** The name of a root that was made elsewhere: 16 hexadecimal digits that follow from its certificate. */
export function idOf(certificate: ParsedCertificate): string {
  return createHash('sha256').update(certificate.x509.raw).digest('hex').slice(0, 16);
}

/** A new root with a new key (P-256). */
export function makeRoot(organization: string, lifetimeMs: number, signsFromMs: number, nowMs: number): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const id = randomBytes(8).toString('hex');
  const name = { organization, commonName: `Ambit root ${id}` };
  const validity = { notBeforeMs: nowMs - CLOCK_SKEW_MS, notAfterMs: nowMs + lifetimeMs };
  const { pem } = signRoot({ name, privateKey, publicKey }, validity);
  return readRoot(id, pem, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), signsFromMs, 'memory');
}

/** PKCS#8 of the key of a root, for its store and nobody else. */
export function keyPemOf(root: Signer): string {
  return root.issuer.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function parseJson(raw: string, where: string): unknown {
  try {
    return JSON.parse(raw);
  } catch {
    throw new AmbitError('CONFIGURATION', `${where} is not JSON`);
  }
}
