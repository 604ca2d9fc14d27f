/**
 * SPIFFE identities of workloads in Istio's form: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`
 * (SPIFFE-ID specification section 2; the path form is Istio's). Exactly five `/`-separated segments, none empty.
 */
declare const spiffeBrand: unique symbol;
/** Canonical identity text, including the `spiffe://` scheme. */
export type SpiffeId = string & { readonly [spiffeBrand]: true };

export interface SpiffeParts {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const SEGMENT = /^[A-Za-z0-9._-]{1,253}$/;

export function formatSpiffeId(parts: SpiffeParts): SpiffeId {
  return `spiffe://${parts.trustDomain}/ns/${parts.namespace}/sa/${parts.serviceAccount}` as SpiffeId;
}

/** The parts of an identity, or undefined when `text` is not one. */
export function parseSpiffeId(text: string): SpiffeParts | undefined {
  if (text.length > 2048 || !text.startsWith('spiffe://')) return undefined;
  const segments = text.slice('spiffe://'.length).split('/');
  if (segments.length !== 5) return undefined;
  const [trustDomain, ns, namespace, sa, serviceAccount] = segments;
  if (trustDomain === undefined || namespace === undefined || serviceAccount === undefined) return undefined;
  if (ns !== 'ns' || sa !== 'sa') return undefined;
  if (!TRUST_DOMAIN.test(trustDomain) || !SEGMENT.test(namespace) || !SEGMENT.test(serviceAccount)) return undefined;
  if (namespace === '.' || namespace === '..' || serviceAccount === '.' || serviceAccount === '..') return undefined;
  return { trustDomain, namespace, serviceAccount };
}

export function isSpiffeId(text: string): text is SpiffeId {
  return parseSpiffeId(text) !== undefined;
}
