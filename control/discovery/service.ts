/**
 * Service -> istio.workload.Service. Pure.
 *
 * An ExternalName service is not announced: it has no address of its own. Its name is an alias that DNS resolves on
 * the client's side, and the connection arrives at an address of the name behind it, which is where services,
 * ServiceEntries and policies of that name take hold.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  IPFamilies,
  type PortSchema,
  type Service as ServiceResource,
  ServiceSchema,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import type { Namespace } from '../objects/cluster.ts';
import type { Service, ServicePort } from '../objects/service.ts';
import type { MeshSettings } from '../settings.ts';
import { appProtocol } from './app-protocol.ts';
import { loadBalancing } from './load-balancing.ts';
import type { EndpointService } from './membership.ts';
import { ingressUsesWaypoint, type WaypointBinding, waypointAddress, weightedWaypoints } from './waypoint-binding.ts';

export function serviceHostname(namespace: string, name: string, settings: MeshSettings): string {
  return `${name}.${namespace}.svc.${settings.clusterDomain}`;
}

/** The resource name, also the key of a workload's membership: `<namespace>/<hostname>`. */
export function serviceKey(namespace: string, name: string, settings: MeshSettings): string {
  return `${namespace}/${serviceHostname(namespace, name, settings)}`;
}

/** Namespace and name of the Service that has `hostname`, if it has that form. */
export function parseServiceHostname(
  hostname: string,
  settings: MeshSettings,
): { namespace: string; name: string } | undefined {
  const suffix = `.svc.${settings.clusterDomain}`;
  if (!hostname.endsWith(suffix)) return undefined;
  const [name, namespace, ...rest] = hostname.slice(0, -suffix.length).split('.');
  return name === undefined || namespace === undefined || rest.length > 0 ? undefined : { namespace, name };
}

/** Undefined for a service that only renames an outside host. */
export function buildService(
  service: Service,
  namespace: Namespace | undefined,
  binding: WaypointBinding,
  settings: MeshSettings,
): ServiceResource | undefined {
  if (service.type === 'ExternalName') return undefined;
  const { meta } = service;
  return create(ServiceSchema, {
    name: meta.name,
    namespace: meta.namespace,
    hostname: serviceHostname(meta.namespace, meta.name, settings),
    addresses: service.clusterIps.map((ip) => ({ network: settings.network, address: ipToBytes(ip) })),
    ports: tcpPorts(service).map(announcedPort),
    loadBalancing: loadBalancing(service, namespace),
    ipFamilies: ipFamilies(service),
    canonical: true,
    waypoint: waypointAddress(binding),
    ingressUseWaypoint: binding.waypoint !== undefined && ingressUsesWaypoint(meta, namespace),
    weightedWaypoints: weightedWaypoints(binding),
  });
}

/** What its endpoints must know of it. */
export function endpointService(service: Service, settings: MeshSettings): EndpointService {
  const key = serviceKey(service.meta.namespace, service.meta.name, settings);
  return { key, ports: tcpPorts(service), named: 'targets' };
}

function tcpPorts(service: Service): ServicePort[] {
  return service.ports.filter((port) => port.protocol === 'TCP');
}

/** A named target is 0: each workload states its own. */
export function announcedPort(port: Omit<ServicePort, 'protocol'>): MessageInitShape<typeof PortSchema> {
  const targetPort = typeof port.target === 'number' ? port.target : 0;
  return { servicePort: port.port, targetPort, appProtocol: appProtocol(port) };
}

function ipFamilies(service: Service): IPFamilies {
  const v4 = service.ipFamilies.includes('IPv4');
  const v6 = service.ipFamilies.includes('IPv6');
  if (v4 && v6) return IPFamilies.DUAL;
  if (v4) return IPFamilies.IPV4_ONLY;
  return v6 ? IPFamilies.IPV6_ONLY : IPFamilies.AUTOMATIC;
}
