/**
 * A workload as decisions see it: validated, canonical, immutable. One record per `istio.workload.Workload` resource;
 * an update replaces the record. Repeated values (strings, localities, memberships, gateways) are shared between
 * records by `SharedValues`, because a mesh has many pods and few of anything else.
 */
import type { IpAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';

export interface Workload {
  /** Unique in the mesh, for a pod `<cluster>//Pod/<namespace>/<name>`. Not the uid of the Kubernetes object. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  /** In the order of the source; empty where only `hostname` is known. */
  readonly addresses: readonly IpAddress[];
  /** DNS name of a workload without addresses, else empty. */
  readonly hostname: string;
  readonly network: string;
  /** HBONE: answers on port 15008 with mutual TLS. */
  readonly tunnelProtocol: 'NONE' | 'HBONE';
  readonly trustDomain: string;
  readonly serviceAccount: string;
  readonly identity: SpiffeId;
  /** Exactly `[identity]`, shared by every workload of that identity: what a tunnel to it must prove. */
  readonly identities: readonly SpiffeId[];
  readonly waypoint: GatewayAddress | undefined;
  readonly networkGateway: GatewayAddress | undefined;
  readonly node: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  /** As in the baggage keys `k8s.<type>.name`. */
  readonly workloadType: WorkloadType;
  readonly workloadName: string;
  readonly nativeTunnel: boolean;
  readonly applicationTunnel: ApplicationTunnel | undefined;
  readonly memberships: readonly Membership[];
  /** Keys `<namespace>/<name>` of the policies that select this workload. */
  readonly authorizationPolicies: readonly string[];
  readonly healthy: boolean;
  readonly clusterId: string;
  readonly locality: Locality;
  /** Its addresses are those of a node and identify nothing. */
  readonly hostNetwork: boolean;
  /** Weight among endpoints, 0 to 2^32 - 1. */
  readonly capacity: number;
}

export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job';

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** That a workload is an endpoint of a service. */
export interface Membership {
  /** `<namespace>/<hostname>`. */
  readonly serviceKey: string;
  /** Where the workload itself answers; empty when the service's own target ports hold. */
  readonly ports: readonly PortMapping[];
}

export interface PortMapping {
  readonly servicePort: number;
  /** 0: the port has a name that each workload resolves for itself. */
  readonly targetPort: number;
}

/** How a terminated tunnel is handed to the application. */
export interface ApplicationTunnel {
  readonly protocol: 'NONE' | 'PROXY';
  /** 0: the port that was asked for. */
  readonly port: number;
}

/** Where a waypoint or a network gateway is. `port` is its HBONE port (a service port when the name is a service). */
export type GatewayAddress =
  | { readonly kind: 'address'; readonly network: string; readonly ip: IpAddress; readonly port: number }
  | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string; readonly port: number };

/** `network/ip` or `namespace/hostname`, as `istioctl` prints it. */
export function formatGateway(gateway: GatewayAddress): string {
  return gateway.kind === 'address' ? `${gateway.network}/${gateway.ip}` : `${gateway.namespace}/${gateway.hostname}`;
}

/** The port `workload` itself maps `servicePort` of the service to, or 0 when it has no mapping of its own. */
export function ownTargetPort(workload: Workload, serviceKey: string, servicePort: number): number {
  const { memberships } = workload;
  for (let i = 0; i < memberships.length; i++) {
    const membership = memberships[i];
    if (membership?.serviceKey === serviceKey) return targetPortOf(membership.ports, servicePort);
  }
  return 0;
}

/** The target of `servicePort` in `ports`, 0 when it is not there or named. */
export function targetPortOf(ports: readonly PortMapping[], servicePort: number): number {
  for (let i = 0; i < ports.length; i++) {
    const mapping = ports[i];
    if (mapping?.servicePort === servicePort) return mapping.targetPort;
  }
  return 0;
}
