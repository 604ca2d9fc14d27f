/** A resource as it is served: encoded once, versioned by its content, with what subscriptions need to find it. */
import { hash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { type Authorization, AuthorizationSchema } from '../../api/gen/istio/security/authorization_pb.js';
import {
  AddressSchema,
  type GatewayAddress,
  NetworkMode,
  type Service,
  ServiceVisibility,
  type Workload,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipFromBytes } from '../../core/ip.ts';

export const ADDRESS_TYPE = 'type.googleapis.com/istio.workload.Address';
export const AUTHORIZATION_TYPE = 'type.googleapis.com/istio.security.Authorization';
/** In the order in which responses are sent: a policy is announced before the workloads that name it. */
export const RESOURCE_TYPES = [AUTHORIZATION_TYPE, ADDRESS_TYPE] as const;
export type ResourceType = (typeof RESOURCE_TYPES)[number];

export interface Resource {
  readonly name: string;
  /** Hash of the content: equal content, equal version, on every replica and after every restart. */
  readonly version: string;
  /** The encoded message without its type. */
  readonly bytes: Uint8Array;
  /** Further names it can be asked for by. */
  readonly aliases: readonly string[];
  /** Services it is an endpoint of. */
  readonly services: readonly string[];
  /** A narrower version of what was announced before: clients get it after the workloads of the time. */
  readonly late?: boolean;
  /** Node it runs on; empty where it runs on none. */
  readonly node: string;
  /** The one namespace whose clients may see it; empty: every client of the mesh. */
  readonly privateTo: string;
  /** Waypoints it is behind, by the names they are addressed by: `<namespace>/<hostname>` or `<network>/<ip>`. */
  readonly waypoints?: readonly string[];
}

export interface ResourceUpdate {
  readonly type: ResourceType;
  readonly name: string;
  /** Undefined: no such resource any more. */
  readonly resource: Resource | undefined;
}

export function authorizationName(policy: Authorization): string {
  return `${policy.namespace}/${policy.name}`;
}

export function authorizationResource(policy: Authorization): Resource {
  return resource(authorizationName(policy), toBinary(AuthorizationSchema, policy), {});
}

export function workloadResource(workload: Workload): Resource {
  const address = create(AddressSchema, { type: { case: 'workload', value: workload } });
  // An address that others share means no single workload.
  const aliases =
    workload.networkMode === NetworkMode.HOST_NETWORK
      ? NONE
      : workload.addresses.map((bytes) => `${workload.network}/${ipFromBytes(bytes) ?? ''}`);
  return resource(workload.uid, toBinary(AddressSchema, address), {
    aliases,
    services: Object.keys(workload.services),
    node: workload.node,
    waypoints: waypointsOf(workload),
  });
}

export function serviceResource(service: Service): Resource {
  const address = create(AddressSchema, { type: { case: 'service', value: service } });
  const aliases = service.addresses.map(({ network, address: bytes, length }) => {
    const ip = `${network}/${ipFromBytes(bytes) ?? ''}`;
    return length === undefined ? ip : `${ip}/${length}`;
  });
  return resource(`${service.namespace}/${service.hostname}`, toBinary(AddressSchema, address), {
    aliases,
    privateTo: service.visibility === ServiceVisibility.NAMESPACE ? service.namespace : '',
    waypoints: waypointsOf(service),
  });
}

const NONE: readonly string[] = [];

function resource(name: string, bytes: Uint8Array, facts: Partial<Resource>): Resource {
  return {
    name,
    version: hash('sha256', bytes, 'base64url').slice(0, 16),
    bytes,
    aliases: facts.aliases ?? NONE,
    services: facts.services ?? NONE,
    node: facts.node ?? '',
    privateTo: facts.privateTo ?? '',
    waypoints: facts.waypoints ?? NONE,
  };
}

/** The names by which waypoints are addressed: `<namespace>/<hostname>` or `<network>/<ip>`. */
function waypointsOf(of: Pick<Workload, 'waypoint'> & Partial<Pick<Service, 'weightedWaypoints'>>): readonly string[] {
  if (of.waypoint === undefined) return NONE;
  const addresses = [of.waypoint, ...(of.weightedWaypoints ?? []).flatMap(({ destination }) => destination ?? [])];
  return [...new Set(addresses.map(gatewayName))];
}

function gatewayName({ destination }: GatewayAddress): string {
  switch (destination.case) {
    case 'hostname':
      return `${destination.value.namespace}/${destination.value.hostname}`;
    case 'address':
      return `${destination.value.network}/${ipFromBytes(destination.value.address) ?? ''}`;
    default:
      return '';
  }
}
