/** Service -> istio.workload.Service (`cni-and-control-plane` facts: hostnames, protocols, endpoint preference). Pure. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AppProtocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type LoadBalancingSchema,
  type Service as ServiceResource,
  ServiceSchema,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import type { Namespace } from '../objects/cluster.ts';
import type { Service, ServicePort } from '../objects/service.ts';
import type { MeshSettings } from '../settings.ts';

export function serviceHostname(service: Service, settings: MeshSettings): string {
  return `${service.meta.name}.${service.meta.namespace}.svc.${settings.clusterDomain}`;
}

/** The resource name, also the key of a workload's membership: `<namespace>/<hostname>`. */
export function serviceKey(service: Service, settings: MeshSettings): string {
  return `${service.meta.namespace}/${serviceHostname(service, settings)}`;
}

/** Undefined for a service that only renames an outside host: agents do not resolve it. */
export function buildService(
  service: Service,
  namespace: Namespace | undefined,
  settings: MeshSettings,
): ServiceResource | undefined {
  if (service.type === 'ExternalName') return undefined;
  return create(ServiceSchema, {
    name: service.meta.name,
    namespace: service.meta.namespace,
    hostname: serviceHostname(service, settings),
    addresses: service.clusterIps.map((ip) => ({ network: settings.network, address: ipToBytes(ip) })),
    ports: tcpPorts(service).map((port) => ({
      servicePort: port.port,
      targetPort: typeof port.target === 'number' ? port.target : 0,
      appProtocol: appProtocol(port),
    })),
    loadBalancing: loadBalancing(service, namespace),
    ipFamilies: ipFamilies(service),
    canonical: true,
  });
}

/** Only TCP can be tunnelled. */
export function tcpPorts(service: Service): ServicePort[] {
  return service.ports.filter((port) => port.protocol === 'TCP');
}

function ipFamilies(service: Service): IPFamilies {
  const v4 = service.ipFamilies.includes('IPv4');
  const v6 = service.ipFamilies.includes('IPv6');
  if (v4 && v6) return IPFamilies.DUAL;
  if (v4) return IPFamilies.IPV4_ONLY;
  return v6 ? IPFamilies.IPV6_ONLY : IPFamilies.AUTOMATIC;
}

const PROTOCOLS: ReadonlyMap<string, AppProtocol> = new Map([
  ['http', AppProtocol.HTTP11],
  ['grpc-web', AppProtocol.HTTP11],
  ['kubernetes.io/ws', AppProtocol.HTTP11],
  ['http2', AppProtocol.HTTP2],
  ['kubernetes.io/h2c', AppProtocol.HTTP2],
  ['grpc', AppProtocol.GRPC],
  ['tcp', AppProtocol.TCP],
  ['mongo', AppProtocol.TCP],
  ['mysql', AppProtocol.TCP],
  ['redis', AppProtocol.TCP],
  ['tls', AppProtocol.TLS],
  ['https', AppProtocol.TLS],
  ['kubernetes.io/wss', AppProtocol.TLS],
]);

/** `appProtocol`, else the first part of the port's name (`http-admin`), else unknown. */
export function appProtocol(port: ServicePort): AppProtocol {
  const stated = port.appProtocol === undefined ? undefined : PROTOCOLS.get(port.appProtocol.toLowerCase());
  if (stated !== undefined) return stated;
  const name = port.name.toLowerCase();
  if (name === 'grpc-web' || name.startsWith('grpc-web-')) return AppProtocol.HTTP11;
  const dash = name.indexOf('-');
  return PROTOCOLS.get(dash < 0 ? name : name.slice(0, dash)) ?? AppProtocol.UNKNOWN;
}

const { NETWORK, REGION, ZONE, SUBZONE, NODE } = LoadBalancing_Scope;
const SAME_ZONE = [NETWORK, REGION, ZONE];
const SAME_NODE = [NETWORK, REGION, ZONE, SUBZONE, NODE];
const DISTRIBUTION = 'networking.istio.io/traffic-distribution';

function loadBalancing(
  service: Service,
  namespace: Namespace | undefined,
): MessageInitShape<typeof LoadBalancingSchema> | undefined {
  const healthPolicy = service.publishNotReadyAddresses
    ? LoadBalancing_HealthPolicy.ALLOW_ALL
    : LoadBalancing_HealthPolicy.ONLY_HEALTHY;
  const preference = routingPreference(service, namespace);
  if (preference !== undefined) return { ...preference, healthPolicy };
  return service.publishNotReadyAddresses ? { healthPolicy } : undefined;
}

function routingPreference(
  service: Service,
  namespace: Namespace | undefined,
): { mode: LoadBalancing_Mode; routingPreference: LoadBalancing_Scope[] } | undefined {
  if (service.internalTrafficPolicy === 'Local') {
    return { mode: LoadBalancing_Mode.STRICT, routingPreference: [NODE] };
  }
  const distribution =
    service.trafficDistribution ??
    service.meta.annotations.get(DISTRIBUTION) ??
    namespace?.meta.annotations.get(DISTRIBUTION);
  switch (distribution) {
    case 'PreferClose':
    case 'PreferSameZone':
      return { mode: LoadBalancing_Mode.FAILOVER, routingPreference: SAME_ZONE };
    case 'PreferSameNode':
      return { mode: LoadBalancing_Mode.FAILOVER, routingPreference: SAME_NODE };
    default:
      return undefined;
  }
}
