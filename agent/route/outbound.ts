/**
 * Where an outbound connection goes: pure, synchronous, on the state as it is now.
 *
 * One order of lookup decides what an address is: the service with exactly this virtual address, then the workload with
 * this address, then the service whose block contains it. An address that is both a virtual address and a workload is
 * therefore always the service, its waypoint included. Whatever is bound to a waypoint goes there or nowhere.
 */
import { AmbitError } from '../../core/errors.ts';
import { formatSocketAddress, type IpAddress, type SocketAddress } from '../../core/ip.ts';
import { HBONE_PORT } from '../../core/ports.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { MeshState } from '../state/mesh-state.ts';
import { declaresPort, type Service } from '../state/service.ts';
import type { GatewayAddress, Workload } from '../state/workload.ts';
import { chooseAddress } from './address-choice.ts';
import { selectEndpoint } from './endpoint.ts';
import { resolveTargetPort } from './pick-table.ts';
import { identitiesOf, isWaypoint, resolveWaypoint, sampleWaypoint } from './waypoint.ts';

/** What a decision depends on besides the state of the mesh. */
export interface RouteSettings {
  /** REGISTRY_ONLY refuses destinations that are neither a service nor a workload. */
  readonly outboundPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  /** True: pods of one node also talk through a tunnel. */
  readonly forceEncryption: boolean;
  /** True when the workload with this uid (`Workload.uid`) is a pod captured by this agent. */
  isLocalPod(workloadUid: string): boolean;
}

export type OutboundDecision =
  /** Open a tunnel to `dial`, whose holder must prove one of `expectedIdentities`, and ask it for `authority`. */
  | {
      readonly kind: 'tunnel';
      readonly dial: SocketAddress;
      readonly authority: string;
      readonly expectedIdentities: readonly SpiffeId[];
      /** The next hop: the waypoint itself when `hop` is `waypoint`. */
      readonly destination: Workload;
      /** The service that was addressed, if one was. */
      readonly service: Service | undefined;
      readonly hop: 'direct' | 'waypoint';
    }
  /** Both ends are pods of this agent: evaluate inbound policy here and connect to `address` in its namespace. */
  | {
      readonly kind: 'sameNode';
      readonly destination: Workload;
      readonly address: SocketAddress;
      readonly service: Service | undefined;
    }
  /** Connect without a tunnel. */
  | {
      readonly kind: 'plain';
      readonly dial: SocketAddress;
      readonly destination: Workload | undefined;
      readonly service: Service | undefined;
    }
  | {
      readonly kind: 'refuse';
      readonly error: AmbitError;
      readonly destination: Workload | undefined;
      readonly service: Service | undefined;
    };

/**
 * @param source the workload whose namespace the connection came from; its network is the one addresses are looked up in
 * @param clientIp the address the connection came from
 * @param target the original destination
 * @param random uniform in [0, 1)
 * @param avoided an endpoint of the service that could not be reached; another one is wanted
 */
export function decideOutbound(
  state: MeshState,
  source: Workload,
  clientIp: IpAddress,
  target: SocketAddress,
  settings: RouteSettings,
  random: () => number,
  avoided?: Workload,
): OutboundDecision {
  const { network, namespace } = source;
  let service = state.findServiceByVip(network, target.ip, namespace);
  let workload: Workload | undefined;
  if (service === undefined || service.loadBalancing.mode === 'PASSTHROUGH')
    workload = state.findWorkloadByIp(network, target.ip);
  if (service === undefined && workload === undefined) service = state.findServiceByCidr(network, target.ip, namespace);

  if (service !== undefined) {
    const waypoint = sampleWaypoint(service, random);
    if (waypoint !== undefined && !isOwnWaypoint(state, source, clientIp, waypoint))
      return toWaypoint(state, source, waypoint, target, service, undefined, random);
    if (service.loadBalancing.mode !== 'PASSTHROUGH')
      return toService(service, source, target, settings, random, avoided);
  }
  if (workload !== undefined) {
    const { waypoint } = workload;
    if (waypoint !== undefined && !isOwnWaypoint(state, source, clientIp, waypoint))
      return toWaypoint(state, source, waypoint, target, service, workload, random);
    return toWorkload(workload, target, service, settings);
  }
  if (service === undefined && settings.outboundPolicy === 'REGISTRY_ONLY')
    return refuse(
      new AmbitError('REGISTRY_ONLY', `${formatSocketAddress(target)} is neither a service nor a workload of the mesh`),
    );
  return { kind: 'plain', dial: target, destination: undefined, service };
}

function toWaypoint(
  state: MeshState,
  source: Workload,
  waypoint: GatewayAddress,
  target: SocketAddress,
  service: Service | undefined,
  destination: Workload | undefined,
  random: () => number,
): OutboundDecision {
  const hop = resolveWaypoint(state, source, waypoint, target, random);
  if (hop instanceof AmbitError) return refuse(hop, destination, service);
  return {
    kind: 'tunnel',
    dial: hop.dial,
    authority: formatSocketAddress(target),
    expectedIdentities: hop.expectedIdentities,
    destination: hop.workload,
    service,
    hop: 'waypoint',
  };
}

function toService(
  service: Service,
  source: Workload,
  target: SocketAddress,
  settings: RouteSettings,
  random: () => number,
  avoided: Workload | undefined,
): OutboundDecision {
  if (!declaresPort(service, target.port))
    return refuse(new AmbitError('UNKNOWN_SERVICE', `${service.key} has no port ${target.port}`), undefined, service);
  const workload = selectEndpoint(service, target.port, source, random, avoided);
  if (workload instanceof AmbitError) return refuse(workload, undefined, service);
  const port = resolveTargetPort(service, workload, target.port);
  return toWorkload(workload, { ip: target.ip, port }, service, settings);
}

function toWorkload(
  workload: Workload,
  requested: SocketAddress,
  service: Service | undefined,
  settings: RouteSettings,
): OutboundDecision {
  const ip = chooseAddress(workload, requested.ip, service?.ipFamilies ?? 'ANY');
  if (ip === undefined)
    return refuse(new AmbitError('NO_HEALTHY_ENDPOINT', `${workload.uid} has no usable address`), workload, service);
  const address: SocketAddress = { ip, port: requested.port };
  // An application tunnel changes what the application receives, and only the inbound side of a tunnel does that.
  if (!settings.forceEncryption && workload.applicationTunnel === undefined && settings.isLocalPod(workload.uid))
    return { kind: 'sameNode', destination: workload, address, service };
  switch (workload.tunnelProtocol) {
    case 'HBONE':
      return {
        kind: 'tunnel',
        dial: { ip, port: HBONE_PORT },
        authority: formatSocketAddress(address),
        expectedIdentities: identitiesOf(workload, service),
        destination: workload,
        service,
        hop: 'direct',
      };
    case 'NONE':
      return { kind: 'plain', dial: address, destination: workload, service };
  }
}

/** The source is the waypoint itself and speaks from its own address: what it sends on must not come back to it. */
function isOwnWaypoint(state: MeshState, source: Workload, clientIp: IpAddress, waypoint: GatewayAddress): boolean {
  return source.addresses.includes(clientIp) && isWaypoint(state, source, waypoint);
}

function refuse(error: AmbitError, destination?: Workload, service?: Service): OutboundDecision {
  return { kind: 'refuse', error, destination, service };
}
