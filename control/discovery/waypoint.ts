/**
 * Gateway -> what the mesh does with it: a waypoint in front of services or workloads, or a way to another network.
 * Pure.
 *
 * A Gateway is one of the mesh when the controller of its class says so or when it has a listener for HBONE. It can be
 * used from the moment it has an address; addresses are never taken back while it exists, so that a waypoint that is
 * down refuses connections instead of being passed by.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { ApplicationTunnel_Protocol, type GatewayAddressSchema } from '../../api/gen/istio/workload/workload_pb.js';
import { type IpAddress, ipToBytes, parseIp } from '../../core/ip.ts';
import type { AllowedNamespaces, Gateway, GatewayClass, GatewayListener } from '../objects/gateway.ts';
import { matchesLabels } from '../objects/label-selector.ts';

export const GATEWAY_NAME_LABEL = 'gateway.networking.k8s.io/gateway-name';
const TRAFFIC_LABEL = 'istio.io/waypoint-for';
const INBOUND_BINDING = 'ambient.istio.io/waypoint-inbound-binding';
const MESH_CONTROLLER = 'istio.io/mesh-controller';
const EAST_WEST_CLASS = 'istio-east-west';
const REMOTE_CLASS = 'istio-remote';
const DEFAULT_HBONE_PORT = 15008;
const HBONE = 'HBONE';
const SAME_NAMESPACE: AllowedNamespaces = { from: 'Same' };
const SERVICE_ACCOUNT = 'gateway.istio.io/service-account';
const TRUST_DOMAIN = 'gateway.istio.io/trust-domain';
const PROXY_PROTOCOL = 'istio.io/PROXY';

/** A way to the workloads of another network. */
export interface NetworkGateway {
  readonly network: string;
  readonly address: MessageInitShape<typeof GatewayAddressSchema>;
  readonly host: { readonly kind: 'ip'; readonly ip: IpAddress } | { readonly kind: 'name'; readonly name: string };
  readonly port: number;
  /** Identity of the gateway, by its annotations; empty: the defaults of the wire format. */
  readonly serviceAccount: string;
  readonly trustDomain: string;
}

export type WaypointTraffic = 'service' | 'workload' | 'all' | 'none';

export interface ApplicationTunnel {
  readonly protocol: ApplicationTunnel_Protocol;
  /** 0: the port of the connection itself. */
  readonly port: number;
}

export interface Waypoint {
  readonly namespace: string;
  readonly name: string;
  readonly traffic: WaypointTraffic;
  readonly address: MessageInitShape<typeof GatewayAddressSchema>;
  /** The listener whose `allowedRoutes` says which namespaces may use it. Undefined: its own only. */
  readonly listener: GatewayListener | undefined;
  readonly class: string;
}

export type GatewayRole = 'waypoint' | 'eastWest' | 'remote' | undefined;

/** What a Gateway is for; undefined for those the mesh has no business with, such as ingress gateways. */
export function gatewayRole(gateway: Gateway, gatewayClass: GatewayClass | undefined): GatewayRole {
  if (gateway.className === EAST_WEST_CLASS) return 'eastWest';
  if (gateway.className === REMOTE_CLASS) return 'remote';
  return gatewayClass?.controllerName === MESH_CONTROLLER || hboneListener(gateway) !== undefined
    ? 'waypoint'
    : undefined;
}

/** Undefined while it has no address, and for other Gateways. */
export function readWaypoint(
  gateway: Gateway,
  gatewayClass: GatewayClass | undefined,
  network: string,
): Waypoint | undefined {
  if (gatewayRole(gateway, gatewayClass) !== 'waypoint') return undefined;
  const listener = hboneListener(gateway);
  const address = gatewayAddress(gateway, network, listener?.port ?? DEFAULT_HBONE_PORT);
  if (address === undefined) return undefined;
  return {
    namespace: gateway.meta.namespace,
    name: gateway.meta.name,
    traffic: readTraffic(gateway, gatewayClass),
    address,
    listener,
    class: gateway.className,
  };
}

/** True when the waypoint takes connections to services, or to workloads by their own addresses. */
export function takes(waypoint: Waypoint, traffic: 'service' | 'workload'): boolean {
  return waypoint.traffic === 'all' || waypoint.traffic === traffic;
}

/** True when objects of `namespace`, which carries `labels`, may use the waypoint. */
export function admits(
  waypoint: Waypoint,
  namespace: string,
  labels: ReadonlyMap<string, string> | undefined,
): boolean {
  const allowed = waypoint.listener?.allowed ?? SAME_NAMESPACE;
  switch (allowed.from) {
    case 'All':
      return true;
    case 'Selector':
      return labels !== undefined && matchesLabels(allowed.selector, labels);
    case 'Same':
      return namespace === waypoint.namespace;
    case 'None':
      return false;
  }
}

/**
 * How connections are handed to the pods of a waypoint that does not terminate HBONE itself: annotation `NONE` or
 * `PROXY`, with `/<port>` or the port of its listener for the PROXY protocol. Undefined: it terminates HBONE.
 */
export function inboundBinding(
  gateway: Gateway,
  gatewayClass: GatewayClass | undefined,
): ApplicationTunnel | undefined {
  const text = gateway.meta.annotations.get(INBOUND_BINDING) ?? gatewayClass?.meta.annotations.get(INBOUND_BINDING);
  const match = /^(NONE|PROXY)(?:\/([1-9][0-9]{0,4}))?$/.exec(text ?? '');
  if (match === null || Number(match[2] ?? 0) > 65_535) return undefined;
  const listener = gateway.listeners.find((candidate) => candidate.protocol === PROXY_PROTOCOL);
  const protocol = match[1] === 'PROXY' ? ApplicationTunnel_Protocol.PROXY : ApplicationTunnel_Protocol.NONE;
  return { protocol, port: match[2] === undefined ? (listener?.port ?? 0) : Number(match[2]) };
}

/** Undefined while it has no address or does not say to which network it leads. */
export function readNetworkGateway(gateway: Gateway, network: string): NetworkGateway | undefined {
  const [first] = gateway.addresses.length > 0 ? gateway.addresses : gateway.wantedAddresses;
  if (network === '' || first === undefined) return undefined;
  const port = hboneListener(gateway)?.port ?? DEFAULT_HBONE_PORT;
  const common = {
    network,
    port,
    serviceAccount: gateway.meta.annotations.get(SERVICE_ACCOUNT) ?? '',
    trustDomain: gateway.meta.annotations.get(TRUST_DOMAIN) ?? '',
  };
  const ip = parseIp(first.value);
  if (ip !== undefined) {
    const value = { network, address: ipToBytes(ip) };
    const address = { destination: { case: 'address', value }, hboneMtlsPort: port } as const;
    return { ...common, host: { kind: 'ip', ip }, address };
  }
  const value = { namespace: gateway.meta.namespace, hostname: first.value };
  const address = { destination: { case: 'hostname', value }, hboneMtlsPort: port } as const;
  return { ...common, host: { kind: 'name', name: first.value }, address };
}

function hboneListener(gateway: Gateway): GatewayListener | undefined {
  return gateway.listeners.find((listener) => listener.protocol === HBONE);
}

/** A host name is preferred: it survives a change of the address behind it. */
function gatewayAddress(
  gateway: Gateway,
  network: string,
  port: number,
): MessageInitShape<typeof GatewayAddressSchema> | undefined {
  const host = gateway.addresses.find((address) => address.type === 'Hostname');
  if (host !== undefined) {
    const value = { namespace: gateway.meta.namespace, hostname: host.value };
    return { destination: { case: 'hostname', value }, hboneMtlsPort: port };
  }
  for (const { type, value: text } of gateway.addresses) {
    const ip = type === 'IPAddress' ? parseIp(text) : undefined;
    if (ip === undefined) continue;
    return { destination: { case: 'address', value: { network, address: ipToBytes(ip) } }, hboneMtlsPort: port };
  }
  return undefined;
}

function readTraffic(gateway: Gateway, gatewayClass: GatewayClass | undefined): WaypointTraffic {
  const text = gateway.meta.labels.get(TRAFFIC_LABEL) ?? gatewayClass?.meta.labels.get(TRAFFIC_LABEL);
  return text === 'workload' || text === 'all' || text === 'none' ? text : 'service';
}
