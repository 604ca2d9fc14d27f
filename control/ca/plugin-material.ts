/**
 * A CA that somebody else runs and plugs in: an intermediate with its key, the certificates up to the roots, and the
 * roots. Two namings are read, that of Istio's `cacerts` and that of TLS Secrets. Pure.
 *
 *   ca-cert.pem  ca-key.pem  root-cert.pem  [cert-chain.pem]  [ca-crl.pem]
 *   tls.crt      tls.key     ca.crt                           [ca-crl.pem]
 */
import { AmbitError } from '../../core/errors.ts';
import { issuerOf, type ParsedCertificate, parseCertificates, parsePrivateKey } from './issuer-certificate.ts';
import { parseRevocationLists } from './revocation-list.ts';
import { idOf } from './root-list.ts';
import { type CaMaterial, CLOCK_SKEW_MS, type Signer } from './root-store.ts';

const NAMINGS = [
  { certificate: 'ca-cert.pem', key: 'ca-key.pem', roots: 'root-cert.pem', chain: 'cert-chain.pem' },
  { certificate: 'tls.crt', key: 'tls.key', roots: 'ca.crt', chain: undefined },
] as const;
const REVOCATIONS = 'ca-crl.pem';
/** Certificates from the signer to the root. */
const MAX_DEPTH = 10;

type Texts = ReadonlyMap<string, string>;
type Naming = (typeof NAMINGS)[number];

/** Every name that is looked at. */
export const PLUGIN_FILES: readonly string[] = [
  ...NAMINGS.flatMap(({ certificate, key, roots, chain }) => [certificate, key, roots, ...(chain ? [chain] : [])]),
  REVOCATIONS,
];

/**
 * The material in these texts (name to content), undefined when there is none at all. Throws CONFIGURATION when it is
 * not whole: what is missing, what does not fit together, what has expired. `where` names the place.
 */
export function readPluginMaterial(texts: Texts, where: string, nowMs: number): CaMaterial | undefined {
  const naming = NAMINGS.find(({ certificate, key, roots }) =>
    [certificate, key, roots].some((name) => texts.has(name)),
  );
  if (naming === undefined) return undefined;
  const { certificate, key, roots } = naming;
  const missing = [certificate, key, roots].filter((name) => (texts.get(name) ?? '').trim() === '');
  if (missing.length > 0) {
    throw new AmbitError('CONFIGURATION', `the CA in ${where} is not whole: ${missing.join(' and ')} missing`);
  }
  const trusted = parseCertificates(texts.get(roots) ?? '', `${roots} in ${where}`);
  const signer = readSigner(texts, naming, trusted, where);
  if (signer.notBeforeMs > nowMs + CLOCK_SKEW_MS || signer.notAfterMs <= nowMs) {
    const [from, to] = [new Date(signer.notBeforeMs).toISOString(), new Date(signer.notAfterMs).toISOString()];
    throw new AmbitError('CONFIGURATION', `the CA in ${where} is valid from ${from} to ${to} only, not now`);
  }
  const crlPem = texts.get(REVOCATIONS);
  if (crlPem !== undefined) {
    const authorities = [...trusted, ...parseCertificates(signer.chain.join(''), `${certificate} in ${where}`)];
    parseRevocationLists(crlPem, authorities, `${REVOCATIONS} in ${where}`);
  }
  return { signers: [signer], rootsPem: trusted.map(({ pem }) => pem).join(''), crlPem };
}

function readSigner(texts: Texts, naming: Naming, trusted: readonly ParsedCertificate[], where: string): Signer {
  const [own, ...further] = parseCertificates(texts.get(naming.certificate) ?? '', `${naming.certificate} in ${where}`);
  if (own === undefined)
    throw new AmbitError('CONFIGURATION', `${naming.certificate} in ${where} holds no certificate`);
  if (!own.x509.ca) {
    throw new AmbitError('CONFIGURATION', `${naming.certificate} in ${where} is not the certificate of a CA`);
  }
  const chainText = naming.chain === undefined ? '' : (texts.get(naming.chain) ?? '');
  const others = [...further, ...parseCertificates(chainText, `${naming.chain} in ${where}`)];
  const path = pathToRoot(own, others, trusted);
  const root = path?.at(-1);
  if (path === undefined || root === undefined) {
    const lead = `the certificates in ${where} do not lead from ${naming.certificate} to a root in ${naming.roots}`;
    throw new AmbitError('CONFIGURATION', `${lead}: an intermediate is missing, or the root is another`);
  }
  const privateKey = parsePrivateKey(texts.get(naming.key) ?? '', `${naming.key} in ${where}`);
  const issuer = issuerOf(own.x509, privateKey, `${naming.certificate} and ${naming.key} in ${where}`);
  return {
    id: idOf(own),
    certificatePem: own.pem,
    issuer,
    chain: path.slice(0, -1).map(({ pem }) => pem),
    rootPem: root.pem,
    notBeforeMs: Math.max(...path.map(({ x509 }) => x509.validFromDate.getTime())),
    notAfterMs: Math.min(...path.map(({ x509 }) => x509.validToDate.getTime())),
    rootNotAfterMs: root.x509.validToDate.getTime(),
    signsFromMs: 0,
  };
}

/** The certificates from `own` to one of the trusted roots, both included; `own` alone where it is a root itself. */
function pathToRoot(
  own: ParsedCertificate,
  others: readonly ParsedCertificate[],
  trusted: readonly ParsedCertificate[],
): readonly ParsedCertificate[] | undefined {
  const path = [own];
  for (let current = own; path.length <= MAX_DEPTH; ) {
    if (trusted.some(({ x509 }) => x509.fingerprint256 === current.x509.fingerprint256)) return path;
    const issuer = [...trusted, ...others].find((candidate) => hasIssued(candidate, current));
    if (issuer === undefined || path.includes(issuer)) return undefined;
    path.push(issuer);
    current = issuer;
  }
  return undefined;
}

function hasIssued(candidate: ParsedCertificate, certificate: ParsedCertificate): boolean {
  const { x509 } = candidate;
  return x509.ca && certificate.x509.checkIssued(x509) && certificate.x509.verify(x509.publicKey);
}
