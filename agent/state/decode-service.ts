/** `istio.workload.Service` to a `Service` record: every field checked, unknown enumeration values refused. */
import {
  LoadBalancing_HealthPolicy as HealthPolicy,
  IPFamilies,
  type LoadBalancing as LoadBalancingMessage,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
  type Service as ServiceMessage,
  ServiceVisibility,
} from '../../api/gen/istio/workload/workload_pb.js';
import { isSpiffeId } from '../../core/spiffe.ts';
import { address, cidr, enumeration, name, optionalName, refuse } from './decode-fields.ts';
import { decodeGateway, decodePorts } from './decode-workload.ts';
import type { EndpointSet } from './endpoint-set.ts';
import {
  type LoadBalancing,
  type LoadBalancingMode,
  type LocalityScope,
  type Service,
  type ServiceCidrVip,
  type ServiceVip,
  serviceKey,
} from './service.ts';
import type { SharedValues } from './shared-values.ts';

const IP_FAMILIES = {
  [IPFamilies.AUTOMATIC]: 'ANY',
  [IPFamilies.DUAL]: 'ANY',
  [IPFamilies.IPV4_ONLY]: 'IPV4',
  [IPFamilies.IPV6_ONLY]: 'IPV6',
} as const;
const VISIBILITIES = {
  [ServiceVisibility.PUBLIC]: 'PUBLIC',
  [ServiceVisibility.NAMESPACE]: 'NAMESPACE',
} as const;
const MODES: Readonly<Record<number, LoadBalancingMode>> = {
  [Mode.UNSPECIFIED_MODE]: 'ALL',
  [Mode.STRICT]: 'STRICT',
  [Mode.FAILOVER]: 'FAILOVER',
  [Mode.PASSTHROUGH]: 'PASSTHROUGH',
};
/** UNSPECIFIED_SCOPE is absent on purpose: a preference must say what it prefers. */
const SCOPES: Readonly<Record<number, LocalityScope>> = {
  [Scope.REGION]: 'REGION',
  [Scope.ZONE]: 'ZONE',
  [Scope.SUBZONE]: 'SUBZONE',
  [Scope.NODE]: 'NODE',
  [Scope.CLUSTER]: 'CLUSTER',
  [Scope.NETWORK]: 'NETWORK',
};
const HEALTH_POLICIES = {
  [HealthPolicy.ONLY_HEALTHY]: 'ONLY_HEALTHY',
  [HealthPolicy.ALLOW_ALL]: 'ALLOW_ALL',
} as const;

const ANY_ENDPOINT: LoadBalancing = { mode: 'ALL', scopes: [], healthPolicy: 'ONLY_HEALTHY' };

/**
 * @param endpointsOf the live endpoint set of a service key; called only for a service that is accepted
 * @throws AmbitError `DECODE` when the message is not a service this version can serve
 */
export function decodeService(
  message: ServiceMessage,
  shared: SharedValues,
  endpointsOf: (key: string) => EndpointSet,
): Service {
  const namespace = shared.text(name('namespace', message.namespace));
  const hostname = shared.text(name('hostname', message.hostname));
  const key = shared.text(serviceKey(namespace, hostname));
  const { vips, cidrVips } = decodeAddresses(message, shared);
  return {
    key,
    name: optionalName('name', message.name),
    namespace,
    hostname,
    vips,
    cidrVips,
    ports: decodePorts('ports', { $typeName: 'istio.workload.PortList', ports: message.ports }),
    subjectAltNames: message.subjectAltNames.filter(isSpiffeId),
    waypoint: message.waypoint === undefined ? undefined : decodeGateway('waypoint', message.waypoint, shared),
    weightedWaypoints: message.weightedWaypoints.map(({ destination, weight }) => ({
      destination:
        destination === undefined
          ? refuse('weighted_waypoints', 'has an entry without destination')
          : decodeGateway('weighted_waypoints', destination, shared),
      weight,
    })),
    loadBalancing: message.loadBalancing === undefined ? ANY_ENDPOINT : decodeLoadBalancing(message.loadBalancing),
    ipFamilies: enumeration('ip_families', IP_FAMILIES, message.ipFamilies),
    canonical: message.canonical,
    visibility: enumeration('visibility', VISIBILITIES, message.visibility),
    endpoints: endpointsOf(key),
  };
}

function decodeAddresses(message: ServiceMessage, shared: SharedValues) {
  const vips: ServiceVip[] = [];
  const cidrVips: ServiceCidrVip[] = [];
  for (const { network, address: bytes, length } of message.addresses) {
    const sharedNetwork = shared.text(optionalName('addresses.network', network));
    if (length === undefined || length === bytes.length * 8)
      vips.push({ network: sharedNetwork, ip: address('addresses', bytes) });
    else cidrVips.push({ network: sharedNetwork, block: cidr('addresses', bytes, length) });
  }
  return { vips, cidrVips };
}

function decodeLoadBalancing(message: LoadBalancingMessage): LoadBalancing {
  return {
    mode: enumeration('load_balancing.mode', MODES, message.mode),
    scopes: message.routingPreference.map((scope) => enumeration('load_balancing.routing_preference', SCOPES, scope)),
    healthPolicy: enumeration('load_balancing.health_policy', HEALTH_POLICIES, message.healthPolicy),
  };
}
