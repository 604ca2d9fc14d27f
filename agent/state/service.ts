/**
 * A service as decisions see it: validated, canonical, immutable except for `endpoints`, which is the live set of its
 * members and outlives updates of the service. One record per `istio.workload.Service` resource.
 */
import type { CidrBlock, IpAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { EndpointSet } from './endpoint-set.ts';
import type { GatewayAddress, PortMapping } from './workload.ts';

export interface Service {
  /** `<namespace>/<hostname>`. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly ServiceVip[];
  readonly cidrVips: readonly ServiceCidrVip[];
  readonly ports: readonly PortMapping[];
  /** SPIFFE identities that may answer besides those of the endpoints; entries of other kinds are left out. */
  readonly subjectAltNames: readonly SpiffeId[];
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints: readonly WeightedWaypoint[];
  readonly loadBalancing: LoadBalancing;
  readonly ipFamilies: 'ANY' | 'IPV4' | 'IPV6';
  /** The one that answers for its hostname or address when the client's own namespace has none. */
  readonly canonical: boolean;
  /** NAMESPACE: only clients of the same namespace see it. */
  readonly visibility: 'PUBLIC' | 'NAMESPACE';
  readonly endpoints: EndpointSet;
}

export interface ServiceVip {
  readonly network: string;
  readonly ip: IpAddress;
}

export interface ServiceCidrVip {
  readonly network: string;
  readonly block: CidrBlock;
}

export interface WeightedWaypoint {
  readonly destination: GatewayAddress;
  /** 0 to 2^32 - 1; 0 is never chosen. */
  readonly weight: number;
}

export interface LoadBalancing {
  readonly mode: LoadBalancingMode;
  readonly scopes: readonly LocalityScope[];
  /** ALLOW_ALL: unhealthy endpoints are as good as healthy ones. */
  readonly healthPolicy: 'ONLY_HEALTHY' | 'ALLOW_ALL';
}

/** ALL: every endpoint. STRICT: those matching every scope. FAILOVER: those matching most. PASSTHROUGH: no choice. */
export type LoadBalancingMode = 'ALL' | 'STRICT' | 'FAILOVER' | 'PASSTHROUGH';
export type LocalityScope = 'REGION' | 'ZONE' | 'SUBZONE' | 'NODE' | 'CLUSTER' | 'NETWORK';

export function serviceKey(namespace: string, hostname: string): string {
  return `${namespace}/${hostname}`;
}

/** True when the service declares `servicePort`. */
export function declaresPort(service: Service, servicePort: number): boolean {
  const { ports } = service;
  for (let i = 0; i < ports.length; i++) if (ports[i]?.servicePort === servicePort) return true;
  return false;
}

export function isVisibleTo(service: Service, clientNamespace: string | undefined): boolean {
  return service.visibility === 'PUBLIC' || clientNamespace === undefined || service.namespace === clientNamespace;
}
