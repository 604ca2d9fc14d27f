/**
 * A mesh for tests of discovery: objects from YAML in, what agents would be told out. No process, no I/O.
 */
import assert from 'node:assert/strict';
import { fromBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  type GatewayAddress,
  type Service,
  type Workload,
} from '../../api/gen/istio/workload/workload_pb.js';
import { MeshBuilder } from '../../control/discovery/mesh-builder.ts';
import {
  RESOURCE_TYPES,
  type Resource,
  type ResourceType,
  type ResourceUpdate,
} from '../../control/discovery/resource.ts';
import { ObjectStore } from '../../control/model/object-store.ts';
import type { MeshObject, ObjectKey } from '../../control/objects/object.ts';
import type { MeshSettings } from '../../control/settings.ts';
import { parseYamlObjects } from '../../control/sources/yaml-objects.ts';
import { ipFromBytes } from '../../core/ip.ts';

export const MESH_SETTINGS: MeshSettings = {
  clusterId: 'Kubernetes',
  network: '',
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  rootNamespace: 'istio-system',
};

/** Every object of a YAML text, which must be free of problems. */
export function meshObjects(yaml: string): MeshObject[] {
  const { objects, problems } = parseYamlObjects(yaml);
  assert.deepEqual(problems, []);
  return [...objects.values()];
}

export class TestMesh {
  readonly objects = new ObjectStore();
  readonly builder: MeshBuilder;
  readonly resources = new Map<ResourceType, Map<string, Resource>>();

  constructor(settings: Partial<MeshSettings> = {}, sliceCost?: number) {
    this.builder = new MeshBuilder(this.objects, { ...MESH_SETTINGS, ...settings }, sliceCost);
    for (const type of RESOURCE_TYPES) this.resources.set(type, new Map());
  }

  /** Names of the resources that really changed, sorted. */
  apply(upserted: readonly MeshObject[], removed: readonly ObjectKey[] = []): string[] {
    return this.publish(this.builder.update(this.objects.apply({ upserted, removed })));
  }

  /** As `apply`, of YAML. */
  add(...yaml: string[]): string[] {
    return this.apply(meshObjects(yaml.join('\n---\n')));
  }

  remove(...keys: ObjectKey[]): string[] {
    return this.apply([], keys);
  }

  publish(updates: readonly ResourceUpdate[]): string[] {
    const changed = new Set<string>();
    for (const { type, name, resource } of updates) {
      const of = this.resources.get(type);
      if (of?.get(name)?.version === resource?.version) continue;
      changed.add(name);
      if (resource === undefined) of?.delete(name);
      else of?.set(name, resource);
    }
    return [...changed].sort();
  }

  names(): string[] {
    return [...this.resources.values()].flatMap((of) => [...of.keys()]).sort();
  }

  /** Names and versions of everything, sorted: equal content, equal value. */
  content(): string[] {
    return [...this.resources.values()]
      .flatMap((of) => [...of].map(([name, { version }]) => `${name} ${version}`))
      .sort();
  }

  find(name: string): Resource | undefined {
    for (const of of this.resources.values()) {
      const resource = of.get(name);
      if (resource !== undefined) return resource;
    }
    return undefined;
  }

  findWorkload(uid: string): Workload | undefined {
    const { type } = this.#address(uid);
    return type?.case === 'workload' ? type.value : undefined;
  }

  workload(uid: string): Workload {
    const found = this.findWorkload(uid);
    if (found === undefined) throw new Error(`no workload ${uid} among ${this.names().join(', ')}`);
    return found;
  }

  pod(name: string): Workload {
    return this.workload(`Kubernetes//Pod/${name}`);
  }

  findService(name: string): Service | undefined {
    const { type } = this.#address(name);
    return type?.case === 'service' ? type.value : undefined;
  }

  service(name: string): Service {
    const found = this.findService(name);
    if (found === undefined) throw new Error(`no service ${name} among ${this.names().join(', ')}`);
    return found;
  }

  /** `<status> <reason>` of a condition, undefined where there is none. */
  condition(key: ObjectKey, type: string): string | undefined {
    const found = this.builder
      .conditions()
      .get(key)
      ?.find((condition) => condition.type === type);
    return found && `${found.status} ${found.reason}`;
  }

  #address(name: string): { type?: ReturnType<typeof decode>['type'] } {
    const resource = this.find(name);
    return resource === undefined ? {} : decode(resource.bytes);
  }
}

function decode(bytes: Uint8Array) {
  return fromBinary(AddressSchema, bytes);
}

/** `<namespace>/<hostname>:<port>` or `<network>/<ip>:<port>`. */
export function gatewayText(address: GatewayAddress | undefined): string | undefined {
  if (address === undefined) return undefined;
  const { destination, hboneMtlsPort } = address;
  switch (destination.case) {
    case 'hostname':
      return `${destination.value.namespace}/${destination.value.hostname}:${hboneMtlsPort}`;
    case 'address':
      return `${destination.value.network}/${ipFromBytes(destination.value.address)}:${hboneMtlsPort}`;
    default:
      return `nothing:${hboneMtlsPort}`;
  }
}

/** Ports of a membership, `<service port>:<target port>`; undefined: no member. */
export function membershipOf(workload: Workload, service: string): string[] | undefined {
  return workload.services[service]?.ports.map((port) => `${port.servicePort}:${port.targetPort}`);
}

/** An object as YAML (JSON is YAML). */
export function yamlOf(apiVersion: string, kind: string, metadata: object, rest: object = {}): string {
  return JSON.stringify({ apiVersion, kind, metadata, ...rest });
}
