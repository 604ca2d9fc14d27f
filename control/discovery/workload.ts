/**
 * Pod -> istio.workload.Workload. Pure.
 *
 * A pod that is being deleted stays announced as UNHEALTHY until it is gone or terminal, so that its connections drain
 * before its address vanishes.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type ApplicationTunnelSchema,
  type GatewayAddressSchema,
  NetworkMode,
  type Workload,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import type { Node } from '../objects/cluster.ts';
import { isTerminal, type Pod } from '../objects/pod.ts';
import type { MeshSettings } from '../settings.ts';
import { canonicalName, canonicalRevision, workloadName } from './canonical.ts';
import { type EndpointService, memberships } from './membership.ts';
import { podUid } from './uid.ts';
import { nodeLocality, trustDomainField, tunnelFields } from './workload-fields.ts';

export interface PodSurroundings {
  readonly node: Pick<Node, 'meta'> | undefined;
  /** Services the pod is an endpoint of. */
  readonly services: readonly EndpointService[];
  /** Names `<namespace>/<name>` of the policies that select the pod, in the order they are announced. */
  readonly policies: readonly string[];
  readonly waypoint: MessageInitShape<typeof GatewayAddressSchema> | undefined;
  /** Of a pod of a waypoint that does not terminate HBONE itself. */
  readonly applicationTunnel: MessageInitShape<typeof ApplicationTunnelSchema> | undefined;
}

/** Undefined while the pod has no address and when it will never run again. */
export function buildWorkload(pod: Pod, around: PodSurroundings, settings: MeshSettings): Workload | undefined {
  if (isTerminal(pod) || pod.ips.length === 0) return undefined;
  const { meta } = pod;
  return create(WorkloadSchema, {
    uid: podUid(settings.clusterId, meta.namespace, meta.name),
    name: meta.name,
    namespace: meta.namespace,
    addresses: pod.ips.map(ipToBytes),
    network: settings.network,
    ...tunnelFields(meta.labels, meta.annotations),
    trustDomain: trustDomainField(settings),
    serviceAccount: pod.serviceAccount,
    waypoint: around.waypoint,
    node: pod.nodeName,
    canonicalName: canonicalName(meta),
    canonicalRevision: canonicalRevision(meta),
    workloadType: WorkloadType.POD,
    workloadName: workloadName(meta),
    applicationTunnel: around.applicationTunnel,
    services: memberships(around.services, (name) => pod.namedPorts.find((port) => port.name === name)?.port),
    authorizationPolicies: [...around.policies],
    status: pod.ready && !meta.deleting ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: settings.clusterId,
    locality: nodeLocality(around.node),
    networkMode: pod.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
  });
}
