/**
 * What an agent knows about the mesh, in memory, compact, and answering synchronously. The main thread has one and every
 * worker has one; all are fed the same encoded resources in the same order and therefore answer alike. No I/O, no clock.
 *
 * A resource that does not decode is refused alone: the rest of its batch counts and what its name stood for before
 * stays in force. Endpoint sets exist as soon as one workload names a service and hold unhealthy members too, so
 * neither the order of arrival nor a later change of the health policy loses an endpoint.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { AuthorizationSchema } from '../../api/gen/istio/security/authorization_pb.js';
import { AddressSchema } from '../../api/gen/istio/workload/workload_pb.js';
import { toAmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import { refuse } from './decode-fields.ts';
import { decodePolicy } from './decode-policy.ts';
import { decodeService } from './decode-service.ts';
import { decodeWorkload } from './decode-workload.ts';
import { EndpointSet } from './endpoint-set.ts';
import type { Policy } from './policy.ts';
import { PolicyIndex, type PolicySet } from './policy-index.ts';
import {
  ADDRESS_TYPE,
  type ApplyResult,
  AUTHORIZATION_TYPE,
  type EncodedResource,
  type ResourceError,
  type ResourceUpdate,
} from './resource.ts';
import { type Service, serviceKey } from './service.ts';
import { ServiceIndex } from './service-index.ts';
import { SharedValues } from './shared-values.ts';
import type { Workload } from './workload.ts';
import { type LocalWorkloadKey, WorkloadIndex } from './workload-index.ts';

export interface MeshSizes {
  readonly workloads: number;
  readonly services: number;
  readonly policies: number;
}

export class MeshState {
  readonly #workloads = new WorkloadIndex();
  readonly #services = new ServiceIndex();
  readonly #policies = new PolicyIndex();
  readonly #endpoints = new Map<string, EndpointSet>();
  readonly #shared = new SharedValues();
  #generation = 0;
  #partial = false;

  /** Grows with every `apply` that changed something: a cheap test whether decisions may differ now. */
  get generation(): number {
    return this.#generation;
  }

  get sizes(): MeshSizes {
    return { workloads: this.#workloads.size, services: this.#services.size, policies: this.#policies.size };
  }

  /** Takes over one batch. Never throws for what the batch contains. */
  apply(update: ResourceUpdate): ApplyResult {
    const errors: ResourceError[] = [];
    const [put, remove] = this.#handlersOf(update.typeUrl);
    for (const resource of update.updated) {
      try {
        put(resource);
      } catch (thrown) {
        errors.push({ name: resource.name, reason: toAmbitError(thrown, 'DECODE').message });
      }
    }
    let removed = 0;
    for (const name of update.removed) if (remove(name)) removed++;
    const accepted = update.updated.length - errors.length;
    const partial = update.partial === true;
    const changed = accepted + removed > 0 || partial !== this.#partial;
    this.#partial = partial;
    if (changed) this.#generation++;
    return { changed, accepted, errors };
  }

  findWorkloadByUid(uid: string): Workload | undefined {
    return this.#workloads.findByUid(uid);
  }

  /** Workloads of the host network have no address of their own and are never found here. */
  findWorkloadByIp(network: string, ip: IpAddress): Workload | undefined {
    return this.#workloads.findByAddress(network, ip);
  }

  findWorkloadByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#workloads.findByHostname(namespace, hostname);
  }

  findLocalWorkload(key: LocalWorkloadKey): Workload | undefined {
    // Who does not know all peers takes some of them for strangers.
    return this.#partial ? undefined : this.#workloads.findLocal(key);
  }

  findService(namespace: string, hostname: string): Service | undefined {
    return this.#services.findByKey(serviceKey(namespace, hostname));
  }

  findServiceByKey(key: string): Service | undefined {
    return this.#services.findByKey(key);
  }

  findServicesByHostname(hostname: string): readonly Service[] {
    return this.#services.allByHostname(hostname);
  }

  /** The service with exactly this virtual address that a client of `clientNamespace` sees (undefined sees all). */
  findServiceByVip(network: string, ip: IpAddress, clientNamespace?: string): Service | undefined {
    return this.#services.findByVip(network, ip, clientNamespace);
  }

  /** As `findServiceByVip` for services whose virtual address is a block that contains `ip`. */
  findServiceByCidr(network: string, ip: IpAddress, clientNamespace?: string): Service | undefined {
    return this.#services.findByCidr(network, ip, clientNamespace);
  }

  findPolicy(key: string): Policy | undefined {
    return this.#policies.find(key);
  }

  /** False spares the search for dry-run policies. */
  get hasDryRunPolicies(): boolean {
    return this.#policies.hasDryRuns;
  }

  get globalPolicies(): PolicySet {
    return this.#policies.global;
  }

  namespacePolicies(namespace: string): PolicySet {
    return this.#policies.ofNamespace(namespace);
  }

  /** Every policy that applies to the workload, each once; references to unknown ones are left out. */
  policiesFor(workload: Workload): Policy[] {
    const found = new Set<Policy>();
    for (const set of [this.#policies.global, this.#policies.ofNamespace(workload.namespace)])
      for (const policy of [...set.deny, ...set.allow, ...set.dryRun]) found.add(policy);
    for (const key of workload.authorizationPolicies) {
      const policy = this.#policies.find(key);
      if (policy !== undefined) found.add(policy);
    }
    return [...found];
  }

  workloads(): IterableIterator<Workload> {
    return this.#workloads.values();
  }

  services(): IterableIterator<Service> {
    return this.#services.values();
  }

  policies(): IterableIterator<Policy> {
    return this.#policies.values();
  }

  /** Endpoint sets whose service is not known (yet), by service key. */
  *stagedEndpoints(): Generator<[string, EndpointSet]> {
    for (const entry of this.#endpoints) if (this.#services.findByKey(entry[0]) === undefined) yield entry;
  }

  #handlersOf(typeUrl: string): [(resource: EncodedResource) => void, (name: string) => boolean] {
    switch (typeUrl) {
      case ADDRESS_TYPE:
        return [(resource) => this.#putAddress(resource), (name) => this.#removeAddress(name)];
      case AUTHORIZATION_TYPE:
        return [(resource) => this.#putPolicy(resource), (name) => this.#policies.remove(name)];
      default:
        return [() => refuse('type_url', 'is not one this agent serves'), () => false];
    }
  }

  #putAddress(resource: EncodedResource): void {
    const { type } = fromBinary(AddressSchema, resource.bytes, { readUnknownFields: false });
    switch (type.case) {
      case 'workload': {
        const workload = decodeWorkload(type.value, this.#shared);
        checkName(resource, workload.uid);
        this.#putWorkload(workload);
        return;
      }
      case 'service': {
        checkName(resource, serviceKey(type.value.namespace, type.value.hostname));
        this.#putService(decodeService(type.value, this.#shared, (key) => this.#endpointsOf(key)));
        return;
      }
      case undefined:
        refuse('address', 'is neither a workload nor a service');
    }
  }

  #putPolicy(resource: EncodedResource): void {
    const policy = decodePolicy(fromBinary(AuthorizationSchema, resource.bytes, { readUnknownFields: false }));
    checkName(resource, policy.key);
    this.#policies.put(policy);
  }

  #putWorkload(workload: Workload): void {
    const old = this.#workloads.findByUid(workload.uid);
    if (old !== undefined) {
      this.#workloads.remove(old);
      if (old.memberships !== workload.memberships) this.#leaveServices(old);
    }
    this.#workloads.add(workload);
    for (const { serviceKey: key } of workload.memberships) this.#endpointsOf(key).put(workload);
  }

  #putService(service: Service): void {
    const old = this.#services.findByKey(service.key);
    if (old !== undefined) this.#services.remove(old);
    this.#services.add(service);
  }

  #removeAddress(name: string): boolean {
    const workload = this.#workloads.findByUid(name);
    if (workload !== undefined) {
      this.#workloads.remove(workload);
      this.#leaveServices(workload);
      return true;
    }
    const service = this.#services.findByKey(name);
    if (service === undefined) return false;
    this.#services.remove(service);
    this.#dropIfUnused(service.key, service.endpoints);
    return true;
  }

  #leaveServices(workload: Workload): void {
    for (const { serviceKey: key } of workload.memberships) {
      const endpoints = this.#endpoints.get(key);
      if (endpoints === undefined) continue;
      endpoints.remove(workload.uid);
      this.#dropIfUnused(key, endpoints);
    }
  }

  #endpointsOf(key: string): EndpointSet {
    const known = this.#endpoints.get(key);
    if (known !== undefined) return known;
    const created = new EndpointSet();
    this.#endpoints.set(key, created);
    return created;
  }

  #dropIfUnused(key: string, endpoints: EndpointSet): void {
    if (endpoints.size === 0 && this.#services.findByKey(key) === undefined) this.#endpoints.delete(key);
  }
}

/** Removals name resources, so a name that differs from the content could never be removed again. */
function checkName(resource: EncodedResource, key: string): void {
  if (resource.name !== key) refuse('name', `the resource describes ${JSON.stringify(key.slice(0, 128))}`);
}
