/**
 * Meshes for tests: resources made of the few fields a test is about, encoded as a control plane would, and applied to a
 * fresh `MeshState`. Ports are written as in the local configuration, `{80: 8080}`.
 */
import assert from 'node:assert/strict';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { MeshState } from '../../agent/state/mesh-state.ts';
import {
  ADDRESS_TYPE,
  AUTHORIZATION_TYPE,
  type EncodedResource,
  type ResourceUpdate,
} from '../../agent/state/resource.ts';
import type { Service } from '../../agent/state/service.ts';
import type { Workload } from '../../agent/state/workload.ts';
import { AuthorizationSchema } from '../../api/gen/istio/security/authorization_pb.js';
import {
  AddressSchema,
  type GatewayAddressSchema,
  ServiceSchema,
  WorkloadSchema,
} from '../../api/gen/istio/workload/workload_pb.js';
import { getIp, ipToBytes, parseCidr, type SocketAddress } from '../../core/ip.ts';

export type Ports = Readonly<Record<number, number>>;

/** A resource with the type it travels under. */
export interface TestResource extends EncodedResource {
  readonly typeUrl: string;
}

export interface WorkloadFields
  extends Omit<MessageInitShape<typeof WorkloadSchema>, '$typeName' | 'addresses' | 'services'> {
  readonly ips?: readonly string[];
  /** Service key to the ports of this workload. */
  readonly services?: Readonly<Record<string, Ports>>;
}

export interface ServiceFields
  extends Omit<MessageInitShape<typeof ServiceSchema>, '$typeName' | 'addresses' | 'ports'> {
  /** `<ip>`, `<network>/<ip>` or, as block, `<network>/<ip>/<length>`. */
  readonly vips?: readonly string[];
  readonly ports?: Ports;
}

/** A healthy HBONE pod of namespace `default` on `node-1`, unless the fields say otherwise. */
export function workload(name: string, fields: WorkloadFields = {}): TestResource {
  const { ips = [], services = {}, ...rest } = fields;
  const namespace = rest.namespace ?? 'default';
  const uid = rest.uid ?? `Kubernetes//Pod/${namespace}/${name}`;
  const value = create(WorkloadSchema, {
    name,
    namespace,
    uid,
    serviceAccount: name,
    node: 'node-1',
    tunnelProtocol: 1,
    ...rest,
    addresses: ips.map((ip) => ipToBytes(getIp(ip))),
    services: Object.fromEntries(Object.entries(services).map(([key, ports]) => [key, { ports: portList(ports) }])),
  });
  const message = create(AddressSchema, { type: { case: 'workload', value } });
  return { typeUrl: ADDRESS_TYPE, name: uid, version: '1', bytes: toBinary(AddressSchema, message) };
}

/** A public service of namespace `default` with host name `<name>.<namespace>.svc` and the port 80 to 8080. */
export function service(name: string, fields: ServiceFields = {}): TestResource {
  const { vips = [], ports = { 80: 8080 }, ...rest } = fields;
  const namespace = rest.namespace ?? 'default';
  const hostname = rest.hostname ?? `${name}.${namespace}.svc`;
  const value = create(ServiceSchema, {
    name,
    namespace,
    hostname,
    ...rest,
    addresses: vips.map(networkAddress),
    ports: portList(ports),
  });
  const message = create(AddressSchema, { type: { case: 'service', value } });
  const key = `${namespace}/${hostname}`;
  return { typeUrl: ADDRESS_TYPE, name: key, version: '1', bytes: toBinary(AddressSchema, message) };
}

/** A policy with the key `default/<name>` for its namespace, unless the fields say otherwise. */
export function policy(name: string, fields: MessageInitShape<typeof AuthorizationSchema> = {}): TestResource {
  const message = create(AuthorizationSchema, { name, namespace: 'default', scope: 1, ...fields });
  return {
    typeUrl: AUTHORIZATION_TYPE,
    name: `${message.namespace}/${name}`,
    version: '1',
    bytes: toBinary(AuthorizationSchema, message),
  };
}

/** `<network>/<ip>` or `<namespace>/<hostname>`, with its HBONE port. */
export function gatewayAt(destination: string, hboneMtlsPort = 15008): MessageInitShape<typeof GatewayAddressSchema> {
  const [first = '', second = ''] = destination.split('/');
  return /^[0-9a-f.:]+$/.test(second)
    ? { destination: { case: 'address', value: networkAddress(destination) }, hboneMtlsPort }
    : { destination: { case: 'hostname', value: { namespace: first, hostname: second } }, hboneMtlsPort };
}

/** The batches a control plane would send for these resources. */
export function updates(resources: readonly TestResource[]): ResourceUpdate[] {
  return [ADDRESS_TYPE, AUTHORIZATION_TYPE].map((typeUrl) => ({
    typeUrl,
    updated: resources.filter((resource) => resource.typeUrl === typeUrl),
    removed: [],
  }));
}

/** A state that accepted every resource. */
export function meshOf(...resources: TestResource[]): MeshState {
  const state = new MeshState();
  change(state, ...resources);
  return state;
}

/** Adds or replaces resources, all of which must be acceptable. */
export function change(state: MeshState, ...resources: TestResource[]): void {
  for (const update of updates(resources)) assert.deepEqual(state.apply(update).errors, []);
}

/** Removes by the names of the resources. */
export function remove(state: MeshState, ...resources: TestResource[]): void {
  for (const { typeUrl, name } of resources) state.apply({ typeUrl, updated: [], removed: [name] });
}

/** The record of the pod `default/<name>`, or the workload with that uid. */
export function getWorkload(state: MeshState, name: string): Workload {
  const found = state.findWorkloadByUid(`Kubernetes//Pod/default/${name}`) ?? state.findWorkloadByUid(name);
  assert.ok(found, `no workload ${name}`);
  return found;
}

export function getService(state: MeshState, key: string): Service {
  const found = state.findServiceByKey(key);
  assert.ok(found, `no service ${key}`);
  return found;
}

/** `ip:port`, an IPv6 address in brackets. */
export function at(text: string): SocketAddress {
  const colon = text.lastIndexOf(':');
  return { ip: getIp(text.slice(0, colon).replace(/^\[|\]$/g, '')), port: Number(text.slice(colon + 1)) };
}

function portList(ports: Ports) {
  return Object.entries(ports).map(([servicePort, targetPort]) => ({ servicePort: Number(servicePort), targetPort }));
}

function networkAddress(text: string) {
  const [first = '', second, length] = text.split('/');
  const network = second === undefined ? '' : first;
  const ip = second ?? first;
  if (length === undefined) return { network, address: ipToBytes(getIp(ip)) };
  const block = parseCidr(`${ip}/${length}`);
  assert.ok(block, text);
  return { network, address: block.bytes, length: block.prefixLength };
}
