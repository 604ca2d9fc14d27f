/**
 * Whether new material may take the place of old without splitting the mesh: what was signed until now must be trusted
 * still by those who get the new bundle. Pure.
 */
import { parseCertificates, sameAuthority } from './issuer-certificate.ts';
import type { CaMaterial } from './root-store.ts';
import { signingRoot } from './rotation.ts';

/** Why the change is refused, for the operator; undefined: it may be made. Throws CONFIGURATION for damaged PEM. */
export function findMissingOverlap(before: CaMaterial, after: CaMaterial, nowMs: number): string | undefined {
  const signer = signingRoot(before.signers, nowMs);
  // Nothing valid was signed by it lately: there is nobody to lose.
  if (signer === undefined) return undefined;
  const [root] = parseCertificates(signer.rootPem, 'the root in use');
  if (root === undefined) return undefined;
  const trusted = parseCertificates(after.rootsPem, 'the new bundle');
  if (trusted.some(({ x509 }) => sameAuthority(x509, root.x509))) return undefined;
  return (
    'the new trusted roots lack the one that signs now, so that every certificate in use would be refused at once; ' +
    'keep both in root-cert.pem until all certificates are renewed, or restart the control plane to change over hard'
  );
}

/** True when peers that have only the old bundle will refuse what the new signer signs. */
export function outrunsDistribution(before: CaMaterial, after: CaMaterial, nowMs: number): boolean {
  const signer = signingRoot(after.signers, nowMs);
  const [root] = signer === undefined ? [] : parseCertificates(signer.rootPem, 'the new root');
  if (root === undefined || before.rootsPem === '') return false;
  const trusted = parseCertificates(before.rootsPem, 'the bundle in use');
  return !trusted.some(({ x509 }) => sameAuthority(x509, root.x509));
}
