/** Pod -> istio.workload.Workload. Pure. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  NetworkMode,
  type PortSchema,
  TunnelProtocol,
  type Workload,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import type { Node } from '../objects/cluster.ts';
import { selects } from '../objects/metadata.ts';
import { isTerminal, type Pod } from '../objects/pod.ts';
import type { Service } from '../objects/service.ts';
import type { MeshSettings } from '../settings.ts';
import { canonicalName, canonicalRevision, workloadName } from './canonical.ts';
import { serviceKey, tcpPorts } from './service.ts';

/** Identities of this domain are the default of the wire format and are left empty. */
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

export interface PodSurroundings {
  readonly node: Node | undefined;
  /** Services of the pod's namespace. */
  readonly services: Iterable<Service>;
  /** Names `<namespace>/<name>` of the policies that select the pod, in the order they are announced. */
  readonly policies: readonly string[];
}

export function podUid(clusterId: string, namespace: string, name: string): string {
  return `${clusterId}//Pod/${namespace}/${name}`;
}

/** Undefined while the pod has no address and when it will never run again. */
export function buildWorkload(pod: Pod, around: PodSurroundings, settings: MeshSettings): Workload | undefined {
  if (isTerminal(pod) || pod.ips.length === 0) return undefined;
  const labels = around.node?.meta.labels;
  const region = labels?.get('topology.kubernetes.io/region') ?? '';
  const zone = labels?.get('topology.kubernetes.io/zone') ?? '';
  const subzone = labels?.get('topology.istio.io/subzone') ?? '';
  const nativeTunnel = speaksTunnelItself(pod);
  const enrolled = pod.meta.annotations.get('ambient.istio.io/redirection') === 'enabled';
  return create(WorkloadSchema, {
    uid: podUid(settings.clusterId, pod.meta.namespace, pod.meta.name),
    name: pod.meta.name,
    namespace: pod.meta.namespace,
    addresses: pod.ips.map(ipToBytes),
    network: settings.network,
    tunnelProtocol: nativeTunnel || enrolled ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    nativeTunnel,
    trustDomain: settings.trustDomain === DEFAULT_TRUST_DOMAIN ? '' : settings.trustDomain,
    serviceAccount: pod.serviceAccount,
    node: pod.nodeName,
    canonicalName: canonicalName(pod),
    canonicalRevision: canonicalRevision(pod),
    workloadType: WorkloadType.POD,
    workloadName: workloadName(pod),
    services: memberships(pod, around.services, settings),
    authorizationPolicies: [...around.policies],
    status: pod.ready && !pod.meta.deleting ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: settings.clusterId,
    locality: region + zone + subzone === '' ? undefined : { region, zone, subzone },
    networkMode: pod.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
  });
}

/** Sidecars, gateways and waypoints terminate HBONE themselves and say so by label. */
function speaksTunnelItself(pod: Pod): boolean {
  return (pod.meta.labels.get('networking.istio.io/tunnel') ?? '').split(',').includes('http');
}

/** Keys in ascending order, so that equal workloads have equal bytes. */
function memberships(
  pod: Pod,
  services: Iterable<Service>,
  settings: MeshSettings,
): Record<string, { ports: MessageInitShape<typeof PortSchema>[] }> {
  const entries: [string, { ports: MessageInitShape<typeof PortSchema>[] }][] = [];
  for (const service of services) {
    if (service.type === 'ExternalName' || service.selector.size === 0) continue;
    if (selects(service.selector, pod.meta.labels)) {
      entries.push([serviceKey(service, settings), { ports: portsOf(pod, service) }]);
    }
  }
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Ports whose named target this pod does not have are left out: the pod does not serve them. */
function portsOf(pod: Pod, service: Service): MessageInitShape<typeof PortSchema>[] {
  return tcpPorts(service).flatMap((port) => {
    const targetPort =
      typeof port.target === 'number'
        ? port.target
        : pod.namedPorts.find((candidate) => candidate.name === port.target)?.port;
    return targetPort === undefined ? [] : [{ servicePort: port.port, targetPort }];
  });
}
