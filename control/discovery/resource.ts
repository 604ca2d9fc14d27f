/** A resource as it is served: encoded once, versioned by its content, with what subscriptions need to find it. */
import { hash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { type Authorization, AuthorizationSchema } from '../../api/gen/istio/security/authorization_pb.js';
import { AddressSchema, type Service, type Workload } from '../../api/gen/istio/workload/workload_pb.js';
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
  /** Node it runs on; empty where it runs on none. */
  readonly node: string;
  /** The one namespace whose clients may see it; empty: every client of the mesh. */
  readonly privateTo: string;
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
  return resource(authorizationName(policy), toBinary(AuthorizationSchema, policy), [], [], '');
}

export function workloadResource(workload: Workload): Resource {
  const address = create(AddressSchema, { type: { case: 'workload', value: workload } });
  const aliases = workload.addresses.map((bytes) => `${workload.network}/${ipFromBytes(bytes) ?? ''}`);
  const services = Object.keys(workload.services);
  return resource(workload.uid, toBinary(AddressSchema, address), aliases, services, workload.node);
}

export function serviceResource(service: Service): Resource {
  const address = create(AddressSchema, { type: { case: 'service', value: service } });
  const aliases = service.addresses.map(({ network, address: bytes }) => `${network}/${ipFromBytes(bytes) ?? ''}`);
  const name = `${service.namespace}/${service.hostname}`;
  return resource(name, toBinary(AddressSchema, address), aliases, [], '');
}

function resource(
  name: string,
  bytes: Uint8Array,
  aliases: readonly string[],
  services: readonly string[],
  node: string,
): Resource {
  const version = hash('sha256', bytes, 'base64url').slice(0, 16);
  return { name, version, bytes, aliases, services, node, privateTo: '' };
}
