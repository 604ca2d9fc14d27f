/** The kinds the control plane reads, in one table: `apiVersion` and `kind` to their decoder. */

import { type Decoded, type Decoder, decode, isRecord } from '../../core/decoder.ts';
import { type AuthorizationPolicy, authorizationPolicy } from './authorization-policy.ts';
import { type Namespace, type Node, namespace, node, type ServiceAccount, serviceAccount } from './cluster.ts';
import { type EndpointSlice, endpointSlice } from './endpoint-slice.ts';
import { type Gateway, type GatewayClass, gateway, gatewayClass } from './gateway.ts';
import { MESH_CONFIG_NAME, type MeshConfig, meshConfig } from './mesh-config.ts';
import { type PeerAuthentication, peerAuthentication } from './peer-authentication.ts';
import { type Pod, pod } from './pod.ts';
import { type Service, service } from './service.ts';
import { type ServiceEntry, serviceEntry } from './service-entry.ts';
import { type WorkloadEntry, workloadEntry } from './workload-entry.ts';

export type MeshObject =
  | Namespace
  | Node
  | Pod
  | Service
  | EndpointSlice
  | ServiceAccount
  | Gateway
  | GatewayClass
  | AuthorizationPolicy
  | PeerAuthentication
  | ServiceEntry
  | WorkloadEntry
  | MeshConfig;

export type ObjectKind = MeshObject['kind'];

export interface KindRow {
  readonly kind: ObjectKind;
  /** What stands in the object where that is something else. */
  readonly wireKind?: string;
  /** Only objects of this name are of the kind. */
  readonly wireName?: string;
  readonly apiVersions: readonly string[];
  readonly decoder: Decoder<MeshObject>;
  readonly clusterScoped: boolean;
}

const GATEWAY = ['gateway.networking.k8s.io/v1', 'gateway.networking.k8s.io/v1beta1'];
const NETWORKING = ['networking.istio.io/v1', 'networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3'];
const SECURITY = ['security.istio.io/v1', 'security.istio.io/v1beta1'];

export const KIND_TABLE: readonly KindRow[] = [
  { kind: 'Namespace', apiVersions: ['v1'], decoder: namespace, clusterScoped: true },
  { kind: 'Node', apiVersions: ['v1'], decoder: node, clusterScoped: true },
  { kind: 'Pod', apiVersions: ['v1'], decoder: pod, clusterScoped: false },
  { kind: 'Service', apiVersions: ['v1'], decoder: service, clusterScoped: false },
  {
    kind: 'EndpointSlice',
    apiVersions: ['discovery.k8s.io/v1', 'discovery.k8s.io/v1beta1'],
    decoder: endpointSlice,
    clusterScoped: false,
  },
  { kind: 'ServiceAccount', apiVersions: ['v1'], decoder: serviceAccount, clusterScoped: false },
  { kind: 'Gateway', apiVersions: GATEWAY, decoder: gateway, clusterScoped: false },
  { kind: 'GatewayClass', apiVersions: GATEWAY, decoder: gatewayClass, clusterScoped: true },
  { kind: 'AuthorizationPolicy', apiVersions: SECURITY, decoder: authorizationPolicy, clusterScoped: false },
  { kind: 'PeerAuthentication', apiVersions: SECURITY, decoder: peerAuthentication, clusterScoped: false },
  { kind: 'ServiceEntry', apiVersions: NETWORKING, decoder: serviceEntry, clusterScoped: false },
  { kind: 'WorkloadEntry', apiVersions: NETWORKING, decoder: workloadEntry, clusterScoped: false },
  {
    kind: 'MeshConfig',
    wireKind: 'ConfigMap',
    wireName: MESH_CONFIG_NAME,
    apiVersions: ['v1'],
    decoder: meshConfig,
    clusterScoped: false,
  },
];

/** `<kind>/<namespace>/<name>`, the namespace empty for objects of the cluster. Unique among all objects. */
export type ObjectKey = string;

export function objectKey(object: MeshObject): ObjectKey {
  return `${object.kind}/${object.meta.namespace}/${object.meta.name}`;
}

/** The parts of a key; none of them contains a slash. */
export function parseObjectKey(key: ObjectKey): { kind: string; namespace: string; name: string } {
  const [kind = '', namespace = '', name = ''] = key.split('/');
  return { kind, namespace, name };
}

/** `<namespace>/<name>`. */
export function namespacedName(object: MeshObject): string {
  return `${object.meta.namespace}/${object.meta.name}`;
}

export type ObjectIdentity =
  /** A kind of the table; `key` says which object, even when the rest of it is wrong. */
  | { readonly kind: 'known'; readonly row: KindRow; readonly key: ObjectKey }
  /** An object of a kind the mesh does not read. */
  | { readonly kind: 'foreign'; readonly what: string }
  /** Not recognisable as an object. */
  | { readonly kind: 'unclear'; readonly reason: string };

/** What a plain value claims to be, without judging the rest of it. */
export function identify(value: unknown): ObjectIdentity {
  if (!isRecord(value)) return { kind: 'unclear', reason: 'is not an object' };
  const { apiVersion, kind, metadata } = value;
  if (typeof apiVersion !== 'string') return { kind: 'unclear', reason: 'has no apiVersion' };
  if (typeof kind !== 'string') return { kind: 'unclear', reason: 'has no kind' };
  const name = isRecord(metadata) ? metadata.name : undefined;
  const row = KIND_TABLE.find(
    (candidate) =>
      (candidate.wireKind ?? candidate.kind) === kind &&
      candidate.apiVersions.includes(apiVersion) &&
      (candidate.wireName === undefined || candidate.wireName === name),
  );
  if (row === undefined) return { kind: 'foreign', what: `${apiVersion} ${kind}`.slice(0, 120) };
  if (!isRecord(metadata) || typeof name !== 'string') return { kind: 'unclear', reason: 'has no metadata.name' };
  const namespaceField = typeof metadata.namespace === 'string' ? metadata.namespace : 'default';
  return { kind: 'known', row, key: `${row.kind}/${row.clusterScoped ? '' : namespaceField}/${name}` };
}

/** Decodes an object of a known kind. */
export function decodeObject(row: KindRow, value: unknown): Decoded<MeshObject> {
  return decode(row.decoder, value);
}
