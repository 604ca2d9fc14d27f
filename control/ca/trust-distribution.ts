/**
 * What everybody in the cluster is told of the CA: the roots as a ConfigMap in every namespace (pods mount it to verify
 * the control plane), as a ClusterTrustBundle where the API has such, and revocation lists as a second ConfigMap. Names
 * are istiod's, so that whatever mounts its ConfigMaps finds ours. Pure.
 */
import { createHash } from 'node:crypto';
import { type Decoder, decode, object, optional, record, string, withDefault } from '../../core/decoder.ts';
import { apiVersionOf, type Resource } from '../../kube/resource.ts';

export interface DistributedText {
  /** Of the ConfigMap. */
  readonly name: string;
  /** In the ConfigMap. */
  readonly key: string;
}

export const ROOTS_TEXT: DistributedText = { name: 'istio-ca-root-cert', key: 'root-cert.pem' };
export const REVOCATIONS_TEXT: DistributedText = { name: 'istio-ca-crl', key: 'ca-crl.pem' };
export const DISTRIBUTED_TEXTS: readonly DistributedText[] = [ROOTS_TEXT, REVOCATIONS_TEXT];

const LABEL = 'istio.io/config';

export const TRUST_BUNDLE_NAME = 'istio.io:istiod-ca:root-cert';
export const TRUST_BUNDLE_SIGNER = 'istio.io/istiod-ca';

/** Namespaces where no pods of users run. */
const WITHOUT_ROOTS: ReadonlySet<string> = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);

export interface NamespaceFacts {
  readonly name: string;
  /** Nothing can be created in it any more. */
  readonly terminating: boolean;
}

const namespaceObject = object(
  {
    metadata: object({ name: string, deletionTimestamp: optional(string) }, 'ignore'),
    status: withDefault(object({ phase: withDefault(string, '') }, 'ignore'), { phase: '' }),
  },
  'ignore',
);

/** Undefined for what is no namespace. */
export function readNamespace(value: unknown): NamespaceFacts | undefined {
  const decoded = decode(namespaceObject, value);
  if (!decoded.ok) return undefined;
  const { metadata, status } = decoded.value;
  return {
    name: metadata.name,
    terminating: metadata.deletionTimestamp !== undefined || status.phase === 'Terminating',
  };
}

export function receivesRoots({ name, terminating }: NamespaceFacts): boolean {
  return !terminating && !WITHOUT_ROOTS.has(name);
}

/** What is remembered of a ConfigMap that stands. */
export interface StandingConfigMap {
  readonly namespace: string;
  readonly labelled: boolean;
  /** Hash of the text under the key; undefined: it has none. */
  readonly hash: string | undefined;
}

/** Bundles and revocation lists are longer than other texts; what is none is not as wanted. */
const longText: Decoder<string> = (value) => (typeof value === 'string' ? value : '');

const configMap = object(
  {
    metadata: object(
      { namespace: withDefault(string, ''), labels: withDefault(record(string), new Map<string, string>()) },
      'ignore',
    ),
    data: withDefault(record(longText), new Map<string, string>()),
  },
  'ignore',
);

/** Undefined for what is no ConfigMap. */
export function readConfigMap(value: unknown, { key }: DistributedText): StandingConfigMap | undefined {
  const decoded = decode(configMap, value);
  if (!decoded.ok) return undefined;
  const { metadata, data } = decoded.value;
  const text = data.get(key);
  const hash = text === undefined ? undefined : hashOf(text);
  return { namespace: metadata.namespace, labelled: metadata.labels.get(LABEL) === 'true', hash };
}

/** True when nothing has to be written. */
export function isAsWanted(standing: StandingConfigMap | undefined, text: string): boolean {
  return standing?.labelled === true && standing.hash === hashOf(text);
}

/** For server-side apply. */
export function configMapOf({ name, key }: DistributedText, namespace: string, text: string): unknown {
  const metadata = { name, namespace, labels: { [LABEL]: 'true' } };
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { [key]: text } };
}

/** For server-side apply. `resource`: in the version that this API server has. */
export function trustBundleOf(resource: Resource, rootsPem: string): unknown {
  return {
    apiVersion: apiVersionOf(resource),
    kind: resource.kind,
    metadata: { name: TRUST_BUNDLE_NAME, labels: { [LABEL]: 'true' } },
    spec: { signerName: TRUST_BUNDLE_SIGNER, trustBundle: rootsPem },
  };
}

const trustBundle = object({ spec: object({ trustBundle: longText }, 'ignore') }, 'ignore');

export function isTrustBundleAsWanted(value: unknown, rootsPem: string): boolean {
  const decoded = decode(trustBundle, value);
  return decoded.ok && decoded.value.spec.trustBundle === rootsPem;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
