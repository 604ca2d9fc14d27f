/**
 * The Secret with the roots of the CA, readable and writable for istiod too: what istiod keeps in it stands under the
 * same names, our list of roots and their keys beside it. Pure.
 *
 *   ca-cert.pem, ca-key.pem      the root that signs now
 *   root-cert.pem                every certificate that is trusted, also roots of which we have no key
 *   cert-chain.pem, key.pem      empty, as istiod writes them
 *   ambit-roots.json             every root of ours and when it signs (root-list.ts)
 *   ambit-<id>.key.pem           its key
 */
import { type Decoder, decode, object, record, withDefault } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import { type ParsedCertificate, parseCertificates, sameAuthority } from './issuer-certificate.ts';
import { formatRootList, idOf, keyPemOf, parseRootList, readRoot } from './root-list.ts';
import type { Signer } from './root-store.ts';
import { signingRoot } from './rotation.ts';

export const CA_SECRET_NAME = 'istio-ca-secret';
export const CA_SECRET_TYPE = 'istio.io/ca-root';
const LIST = 'ambit-roots.json';
const OWN_KEY = /^ambit-([0-9a-f]{16}\.key\.pem|roots\.json)$/;

export interface SecretContent {
  readonly roots: readonly Signer[];
  /** PEM of trusted roots whose keys are elsewhere. */
  readonly extraRoots: readonly string[];
  /** The certificate under `ca-cert.pem`. */
  readonly announcedPem: string;
}

/** Up to the megabyte that the API server lets a Secret have. */
const value: Decoder<string> = (raw, path, report) => {
  if (typeof raw === 'string') return raw;
  report(path, 'must be a string');
  return undefined;
};
const secret = object({ data: withDefault(record(value), new Map<string, string>()) }, 'ignore');

/** The values of a Secret as text. Throws CONFIGURATION; `where` names the Secret. */
export function secretTexts(stored: unknown, where: string): ReadonlyMap<string, string> {
  const decoded = decode(secret, stored);
  if (!decoded.ok) throw new AmbitError('CONFIGURATION', `${where} is not readable: ${decoded.problems[0]?.reason}`);
  return new Map([...decoded.value.data].map(([key, text]) => [key, Buffer.from(text, 'base64').toString('utf8')]));
}

/**
 * The roots in a Secret. One that istiod has made or renewed is taken over. Throws CONFIGURATION for anything that is
 * not whole; the message says which key, and never quotes it.
 */
export function readCaSecret(stored: unknown, organization: string, where: string): SecretContent {
  const texts = secretTexts(stored, where);
  const missing = ['ca-cert.pem', 'ca-key.pem'].filter((key) => (texts.get(key) ?? '') === '');
  if (missing.length > 0) throw new AmbitError('CONFIGURATION', `${where} lacks ${missing.join(' and ')}`);
  const [announced, ...others] = parseCertificates(texts.get('ca-cert.pem') ?? '', `ca-cert.pem of ${where}`);
  if (announced === undefined || others.length > 0) {
    throw new AmbitError('CONFIGURATION', `ca-cert.pem of ${where} is not one certificate`);
  }
  const roots = readRoots(texts, announced, organization, where);
  const trusted = parseCertificates(texts.get('root-cert.pem') ?? '', `root-cert.pem of ${where}`);
  const own = new Set(roots.map((root) => idOfPem(root.certificatePem)));
  const extraRoots = trusted.filter((certificate) => !own.has(idOf(certificate))).map(({ pem }) => pem);
  return { roots, extraRoots, announcedPem: announced.pem };
}

function readRoots(
  texts: ReadonlyMap<string, string>,
  announced: ParsedCertificate,
  organization: string,
  where: string,
): readonly Signer[] {
  const list = texts.get(LIST) ?? '';
  const keyPem = texts.get('ca-key.pem') ?? '';
  const adopt = (signsFromMs: number): Signer =>
    readRoot(idOf(announced), announced.pem, keyPem, signsFromMs, `ca-key.pem of ${where}`);
  if (list === '') return [adopt(announced.x509.validFromDate.getTime())];
  const keyOf = (id: string) => {
    const name = `ambit-${id}.key.pem`;
    return { pem: texts.get(name), where: `${name} of ${where}` };
  };
  const roots = parseRootList(list, organization, keyOf, `${LIST} of ${where}`);
  if (roots.some((root) => idOfPem(root.certificatePem) === idOf(announced))) return roots;
  // istiod renews a root by a new certificate for the same key.
  const renewed = roots.find((root) => sameAuthority(certificateOf(root).x509, announced.x509));
  if (renewed !== undefined) return roots.map((root) => (root === renewed ? adopt(root.signsFromMs) : root));
  const advice = `remove ${LIST} and the keys beside it to make ca-cert.pem the only root`;
  throw new AmbitError('CONFIGURATION', `${where}: ca-cert.pem is none of the roots in ${LIST}; ${advice}`);
}

/** The `data` of the Secret. What others keep in it under names of their own (`before`) stays. */
export function caSecretData(
  content: { readonly roots: readonly Signer[]; readonly extraRoots: readonly string[] },
  organization: string,
  nowMs: number,
  before: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const signer = signingRoot(content.roots, nowMs);
  if (signer === undefined) throw new AmbitError('CA', 'none of the roots to be stored is valid now');
  const data = Object.fromEntries(Object.entries(before).filter(([key]) => !OWN_KEY.test(key)));
  const write = (key: string, text: string): void => {
    data[key] = Buffer.from(text, 'utf8').toString('base64');
  };
  write('ca-cert.pem', signer.certificatePem);
  write('ca-key.pem', keyPemOf(signer));
  write('cert-chain.pem', '');
  write('key.pem', '');
  write('root-cert.pem', bundleOf(content));
  write(LIST, formatRootList(content.roots, organization));
  for (const root of content.roots) write(`ambit-${root.id}.key.pem`, keyPemOf(root));
  return data;
}

/** Every trusted certificate, those of others first. */
export function bundleOf(content: {
  readonly roots: readonly Signer[];
  readonly extraRoots: readonly string[];
}): string {
  return [...content.extraRoots, ...content.roots.map((root) => root.certificatePem)].join('');
}

/** True when `ca-cert.pem` is not the root that signs now, so that istiod would sign with another. */
export function announcesAnother(content: SecretContent, nowMs: number): boolean {
  const signer = signingRoot(content.roots, nowMs);
  return signer !== undefined && idOfPem(signer.certificatePem) !== idOfPem(content.announcedPem);
}

function certificateOf(root: Signer): ParsedCertificate {
  const [certificate] = parseCertificates(root.certificatePem, `root ${root.id}`);
  if (certificate === undefined) throw new AmbitError('USAGE', 'a root without a certificate');
  return certificate;
}

function idOfPem(pem: string): string {
  const [certificate] = parseCertificates(pem, 'a root');
  return certificate === undefined ? '' : idOf(certificate);
}
