/**
 * Where a tunnel that arrived at a pod leads: always to the pod's own address. What is decided is whether the asked
 * authority is one this pod answers for, and on which port the application listens. Pure.
 *
 * An authority is accepted when it is the address that was dialled, when it is the host name of a service this pod is an
 * endpoint of, when this pod is the waypoint of the service or workload it names, or when the pod's application expects
 * tunnels itself. A port of the agent is never reached through a tunnel.
 */
import { AmbitError } from '../../core/errors.ts';
import { type IpAddress, isIpv6Address, parseAuthority, type SocketAddress } from '../../core/ip.ts';
import { PROXY_PORTS } from '../../core/ports.ts';
import type { MeshState } from '../state/mesh-state.ts';
import { declaresPort, type Service } from '../state/service.ts';
import type { GatewayAddress, Workload } from '../state/workload.ts';
import { resolveTargetPort } from './pick-table.ts';
import { isWaypoint } from './waypoint.ts';

export type InboundDecision =
  | {
      readonly kind: 'dial';
      /** Where the application listens; also the destination that authorization is about. */
      readonly address: SocketAddress;
      /** For metrics; undefined when no service of the workload fits. */
      readonly service: Service | undefined;
      /** Set when the application expects a PROXY protocol v2 header; it names this destination. */
      readonly proxyDestination: SocketAddress | undefined;
    }
  | { readonly kind: 'refuse'; readonly status: 400 | 503; readonly error: AmbitError };

/**
 * @param local the workload of the pod the tunnel arrived in
 * @param dialedIp the local address the tunnel was opened to
 * @param authority of the CONNECT request, as it was sent
 * @param forwardedHost the `host` of the request's `forwarded` header, a hint for choosing `service`
 */
export function decideInbound(
  state: MeshState,
  local: Workload,
  dialedIp: IpAddress,
  authority: string,
  forwardedHost?: string,
): InboundDecision {
  const parsed = parseAuthority(authority);
  if (parsed === undefined) return refuse(400, 'BAD_AUTHORITY', 'the authority is not <address or name>:<port>');
  if (parsed.kind === 'name') return toName(state, local, dialedIp, parsed.host, parsed.port);
  const { ip, port } = parsed.address;
  if (ip !== dialedIp && local.applicationTunnel === undefined && !answersFor(state, local, ip))
    return refuse(400, 'BAD_AUTHORITY', `the tunnel was opened to ${dialedIp} and asks for ${ip}`);
  return dial(local, dialedIp, port, guessInboundService(state, local, port, forwardedHost), parsed.address);
}

/** The service a connection to `port` of the workload is most likely for (metrics only). */
export function guessInboundService(
  state: MeshState,
  local: Workload,
  port: number,
  forwardedHost?: string,
): Service | undefined {
  let guess: Service | undefined;
  for (const { serviceKey } of local.memberships) {
    const service = state.findServiceByKey(serviceKey);
    if (service === undefined) continue;
    if (service.hostname === forwardedHost) return service;
    if (guess === undefined && listensOn(service, local, port)) {
      if (forwardedHost === undefined) return service;
      guess = service;
    }
  }
  return guess;
}

function toName(
  state: MeshState,
  local: Workload,
  dialedIp: IpAddress,
  hostname: string,
  port: number,
): InboundDecision {
  const services = state.findServicesByHostname(hostname);
  const service =
    services.find(({ endpoints }) => endpoints.has(local.uid)) ??
    services.find((candidate) => isWaypointOfService(state, local, candidate)) ??
    (local.applicationTunnel === undefined ? undefined : services[0]);
  if (service === undefined)
    return services.length === 0
      ? refuse(503, 'UNKNOWN_SERVICE', 'no service has the host name of the authority')
      : refuse(400, 'BAD_AUTHORITY', 'this pod is neither an endpoint nor the waypoint of the service asked for');
  const tunnelled = (local.applicationTunnel?.port ?? 0) > 0;
  const target = tunnelled && declaresPort(service, port) ? port : resolveTargetPort(service, local, port);
  if (target === 0) return refuse(503, 'UNKNOWN_SERVICE', `${service.key} has no port ${port} at this pod`);
  const vip = local.applicationTunnel?.protocol === 'PROXY' ? preferredVip(service, local.network) : dialedIp;
  if (vip === undefined) return refuse(503, 'UNKNOWN_SERVICE', `${service.key} has no address to name to the pod`);
  return dial(local, dialedIp, target, service, { ip: vip, port });
}

function dial(
  local: Workload,
  dialedIp: IpAddress,
  port: number,
  service: Service | undefined,
  asked: SocketAddress,
): InboundDecision {
  if (PROXY_PORTS.has(port)) return refuse(503, 'LOOP', `port ${port} belongs to the agent`);
  const tunnel = local.applicationTunnel;
  const applicationPort = tunnel !== undefined && tunnel.port > 0 ? tunnel.port : port;
  return {
    kind: 'dial',
    address: { ip: dialedIp, port: applicationPort },
    service,
    proxyDestination: tunnel?.protocol === 'PROXY' ? asked : undefined,
  };
}

/** True when the pod is the waypoint of what the address stands for, looked up in the same order as outbound. */
function answersFor(state: MeshState, local: Workload, ip: IpAddress): boolean {
  const exact = state.findServiceByVip(local.network, ip);
  if (exact !== undefined) return isWaypointOfService(state, local, exact);
  const workload = state.findWorkloadByIp(local.network, ip);
  if (workload !== undefined) return isWaypointAt(state, local, workload.waypoint);
  const service = state.findServiceByCidr(local.network, ip);
  return service !== undefined && isWaypointOfService(state, local, service);
}

function isWaypointOfService(state: MeshState, local: Workload, service: Service): boolean {
  return (
    isWaypointAt(state, local, service.waypoint) ||
    service.weightedWaypoints.some(({ destination }) => isWaypointAt(state, local, destination))
  );
}

function isWaypointAt(state: MeshState, local: Workload, gateway: GatewayAddress | undefined): boolean {
  return gateway !== undefined && isWaypoint(state, local, gateway);
}

function listensOn(service: Service, local: Workload, port: number): boolean {
  return service.ports.some(({ servicePort }) => resolveTargetPort(service, local, servicePort) === port);
}

/** The address of the service in the pod's network before those of others, IPv4 before IPv6. */
function preferredVip(service: Service, network: string): IpAddress | undefined {
  const own = service.vips.filter((vip) => vip.network === network);
  const candidates = own.length > 0 ? own : service.vips;
  return (candidates.find(({ ip }) => !isIpv6Address(ip)) ?? candidates[0])?.ip;
}

function refuse(
  status: 400 | 503,
  code: 'BAD_AUTHORITY' | 'UNKNOWN_SERVICE' | 'LOOP',
  detail: string,
): InboundDecision {
  return { kind: 'refuse', status, error: new AmbitError(code, detail) };
}
