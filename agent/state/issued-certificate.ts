/** A certificate with its key and the roots its peers are verified against, checked to be what was asked for. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { AmbitError } from '../../core/errors.ts';
import type { SpiffeId } from '../../core/spiffe.ts';

/** Usable as TLS material as it is. */
export interface IssuedCertificate {
  readonly identity: SpiffeId;
  /** Leaf first, then intermediates. */
  readonly certificateChainPem: string;
  /** PKCS#8. */
  readonly privateKeyPem: string;
  /** One or more. */
  readonly rootsPem: string;
  /** Validity of the leaf, milliseconds since the epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Where certificates come from: a CA or a folder. */
export interface CertificateSource {
  /** Rejects with an `AmbitError`, also when `signal` is aborted. */
  fetch(identity: SpiffeId, signal: AbortSignal): Promise<IssuedCertificate>;
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** The certificates of a bundle, each as PEM with a final line break. */
export function splitPem(bundle: string): string[] {
  return (bundle.match(PEM_CERTIFICATE) ?? []).map((block) => `${block}\n`);
}

/**
 * Puts together what was issued for `identity`. Roots that do not parse are left out.
 *
 * @throws AmbitError `CA` when the leaf is not for this identity and key, or no root is left
 */
export function assembleCertificate(
  identity: SpiffeId,
  privateKeyPem: string,
  chain: readonly string[],
  roots: readonly string[],
): IssuedCertificate {
  const [leafPem] = chain;
  if (leafPem === undefined) throw new AmbitError('CA', 'the chain is empty');
  const leaf = parse(leafPem);
  if (leaf === undefined || chain.some((pem) => parse(pem) === undefined))
    throw new AmbitError('CA', 'the chain holds something that is not a certificate');
  if (!uriNames(leaf).includes(identity)) throw new AmbitError('CA', `the certificate is not for ${identity}`);
  if (!leaf.checkPrivateKey(createPrivateKey(privateKeyPem)))
    throw new AmbitError('CA', 'the certificate is not for the key of the request');
  const usableRoots = roots.filter((pem) => parse(pem) !== undefined);
  if (usableRoots.length === 0) throw new AmbitError('CA', 'no root certificate is present');
  return {
    identity,
    certificateChainPem: chain.join(''),
    privateKeyPem,
    rootsPem: usableRoots.join(''),
    notBeforeMs: leaf.validFromDate.getTime(),
    notAfterMs: leaf.validToDate.getTime(),
  };
}

function parse(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

/** Values with separators in them are printed quoted by Node.js and therefore never equal an identity. */
function uriNames(certificate: X509Certificate): string[] {
  return (certificate.subjectAltName ?? '')
    .split(', ')
    .filter((name) => name.startsWith('URI:'))
    .map((name) => name.slice('URI:'.length));
}
