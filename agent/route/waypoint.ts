/**
 * Waypoints: which one a service names, where it is now, and whether a workload is it. A waypoint that is named but not
 * found is an error and never a reason to go around it.
 */
import { AmbitError } from '../../core/errors.ts';
import type { SocketAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Service } from '../state/service.ts';
import { formatGateway, type GatewayAddress, type Workload } from '../state/workload.ts';
import { chooseAddress } from './address-choice.ts';
import { selectEndpoint } from './endpoint.ts';
import { resolveTargetPort } from './pick-table.ts';

export interface WaypointHop {
  readonly workload: Workload;
  readonly dial: SocketAddress;
  readonly expectedIdentities: readonly SpiffeId[];
}

/** By weight among the weighted ones, the plain one when none has a weight, undefined when the service has neither. */
export function sampleWaypoint(service: Service, random: () => number): GatewayAddress | undefined {
  const { weightedWaypoints } = service;
  let total = 0;
  for (const { weight } of weightedWaypoints) total += weight;
  if (total === 0) return service.waypoint;
  let left = random() * total;
  for (const { destination, weight } of weightedWaypoints) {
    if (left < weight) return destination;
    left -= weight;
  }
  return weightedWaypoints.findLast(({ weight }) => weight > 0)?.destination;
}

/**
 * One instance of the waypoint. The address family follows the waypoint's own address, or `target` when it is given by
 * name. Returned errors: `UNKNOWN_WAYPOINT`, `UNKNOWN_GATEWAY` (it is on another network).
 */
export function resolveWaypoint(
  state: MeshState,
  client: Workload,
  gateway: GatewayAddress,
  target: SocketAddress,
  random: () => number,
): WaypointHop | AmbitError {
  const service = gatewayService(state, gateway);
  if (service !== undefined) return throughService(service, client, gateway, target, random);
  const workload =
    gateway.kind === 'address'
      ? state.findWorkloadByIp(gateway.network, gateway.ip)
      : state.findWorkloadByHostname(gateway.namespace, gateway.hostname);
  if (workload === undefined) return unknown(gateway, 'is not known here');
  return hop(workload, undefined, client, gateway, gateway.port, target);
}

/** True when `workload` is the waypoint or one of the instances behind its service. */
export function isWaypoint(state: MeshState, workload: Workload, gateway: GatewayAddress): boolean {
  const service = gatewayService(state, gateway);
  if (service !== undefined) return service.endpoints.has(workload.uid);
  return gateway.kind === 'address'
    ? gateway.network === workload.network && workload.addresses.includes(gateway.ip)
    : gateway.hostname === workload.hostname && gateway.namespace === workload.namespace;
}

/** `[identity of the workload, ...subject alternative names of the service]`. */
export function identitiesOf(workload: Workload, service: Service | undefined): readonly SpiffeId[] {
  if (service === undefined || service.subjectAltNames.length === 0) return workload.identities;
  return [workload.identity, ...service.subjectAltNames];
}

function gatewayService(state: MeshState, gateway: GatewayAddress): Service | undefined {
  return gateway.kind === 'address'
    ? state.findServiceByVip(gateway.network, gateway.ip)
    : state.findService(gateway.namespace, gateway.hostname);
}

function throughService(
  service: Service,
  client: Workload,
  gateway: GatewayAddress,
  target: SocketAddress,
  random: () => number,
): WaypointHop | AmbitError {
  if (service.loadBalancing.mode === 'PASSTHROUGH')
    return unknown(gateway, 'is a service without a choice of endpoints');
  const workload = selectEndpoint(service, gateway.port, client, random);
  if (!(workload instanceof AmbitError)) {
    const port = resolveTargetPort(service, workload, gateway.port);
    return hop(workload, service, client, gateway, port, target);
  }
  return workload.code === 'UNKNOWN_GATEWAY' ? workload : unknown(gateway, workload.message);
}

function hop(
  workload: Workload,
  service: Service | undefined,
  client: Workload,
  gateway: GatewayAddress,
  port: number,
  target: SocketAddress,
): WaypointHop | AmbitError {
  if (workload.network !== client.network)
    return new AmbitError(
      'UNKNOWN_GATEWAY',
      `the waypoint ${formatGateway(gateway)} is on another network; network gateways are not supported`,
    );
  const ip = chooseAddress(workload, gateway.kind === 'address' ? gateway.ip : target.ip, service?.ipFamilies ?? 'ANY');
  if (ip === undefined) return unknown(gateway, 'has no address');
  return { workload, dial: { ip, port }, expectedIdentities: identitiesOf(workload, service) };
}

function unknown(gateway: GatewayAddress, problem: string): AmbitError {
  return new AmbitError('UNKNOWN_WAYPOINT', `the waypoint ${formatGateway(gateway)} ${problem}`);
}
