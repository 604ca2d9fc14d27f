/**
 * WorkloadEntry, and endpoints written into a ServiceEntry -> istio.workload.Workload. Pure.
 *
 * The address may be a DNS name, which agents resolve. An entry in another network than the cluster's is reached
 * through the gateway of that network.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type GatewayAddressSchema,
  NetworkMode,
  type Workload,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import type { ObjectMeta } from '../objects/metadata.ts';
import type { WorkloadEntry, WorkloadEntrySpec } from '../objects/workload-entry.ts';
import type { MeshSettings } from '../settings.ts';
import { canonicalName, canonicalRevision, workloadName } from './canonical.ts';
import { type EndpointService, memberships } from './membership.ts';
import { workloadEntryUid } from './uid.ts';
import { trustDomainField, tunnelFields } from './workload-fields.ts';

export interface EndpointSurroundings {
  readonly services: readonly EndpointService[];
  readonly policies: readonly string[];
  readonly waypoint: MessageInitShape<typeof GatewayAddressSchema> | undefined;
  /** The gateway of a network that is not the cluster's. */
  readonly networkGateway: (network: string) => MessageInitShape<typeof GatewayAddressSchema> | undefined;
}

/** Undefined where the entry leads nowhere. */
export function buildWorkloadEntry(
  entry: WorkloadEntry,
  around: EndpointSurroundings,
  settings: MeshSettings,
): Workload | undefined {
  const { namespace, name } = entry.meta;
  return buildEndpoint(workloadEntryUid(settings.clusterId, namespace, name), entry.meta, entry, around, settings);
}

/** Labels of the workload: those of the specification over those of the object. */
export function endpointLabels(
  meta: Pick<ObjectMeta, 'labels'>,
  endpoint: Pick<WorkloadEntrySpec, 'labels'>,
): ReadonlyMap<string, string> {
  if (endpoint.labels.size === 0) return meta.labels;
  return new Map([...meta.labels, ...endpoint.labels]);
}

export function buildEndpoint(
  uid: string,
  owner: ObjectMeta,
  endpoint: WorkloadEntrySpec,
  around: EndpointSurroundings,
  settings: MeshSettings,
): Workload | undefined {
  const network = endpoint.network === '' ? settings.network : endpoint.network;
  const networkGateway = network === settings.network ? undefined : around.networkGateway(network);
  const { address } = endpoint;
  if (address.kind === 'unix' || (address.kind === 'none' && networkGateway === undefined)) return undefined;
  const labels = endpointLabels(owner, endpoint);
  const named = { name: owner.name, labels, owner: owner.owner };
  return create(WorkloadSchema, {
    uid,
    name: owner.name,
    namespace: owner.namespace,
    addresses: address.kind === 'ip' ? [ipToBytes(address.ip)] : [],
    hostname: address.kind === 'name' ? address.name : '',
    network,
    networkGateway,
    ...tunnelFields(labels, owner.annotations),
    trustDomain: trustDomainField(settings),
    serviceAccount: endpoint.serviceAccount,
    waypoint: around.waypoint,
    canonicalName: canonicalName(named),
    canonicalRevision: canonicalRevision(named),
    workloadType: WorkloadType.POD,
    workloadName: workloadName(named),
    services: memberships(around.services, (name) => endpoint.ports.get(name)),
    authorizationPolicies: [...around.policies],
    status: WorkloadStatus.HEALTHY,
    clusterId: settings.clusterId,
    locality: endpoint.locality,
    networkMode: NetworkMode.STANDARD,
    capacity: endpoint.weight,
  });
}
