/**
 * What a changed object makes stale: the dependency table of the builder, in one place. Indexes are read anew from the
 * object store, so that they are right even when it is ahead of the change.
 */
import { unreachable } from '../../core/errors.ts';
import type { ObjectChange } from '../model/object-store.ts';
import type { Namespace, Node } from '../objects/cluster.ts';
import { type MeshObject, type ObjectKind, objectKey } from '../objects/object.ts';
import type { Service } from '../objects/service.ts';
import { type Backlog, EVERYWHERE } from './backlog.ts';
import type { MeshView } from './mesh-view.ts';
import { sameValue } from './same-value.ts';
import { endpointService, serviceHostname, serviceKey } from './service.ts';
import type { SweepSink } from './sweep.ts';
import { GATEWAY_NAME_LABEL } from './waypoint.ts';
import { referencedWaypoints } from './waypoint-binding.ts';
import { nodeLocality } from './workload-fields.ts';
import type { Member, WorkloadIndexes } from './workload-resources.ts';

export class ObjectReader implements SweepSink {
  readonly #view: MeshView;
  readonly #indexes: WorkloadIndexes;
  readonly #backlog: Backlog;

  constructor(view: MeshView, indexes: WorkloadIndexes, backlog: Backlog) {
    this.#view = view;
    this.#indexes = indexes;
    this.#backlog = backlog;
  }

  /** What a policy of a namespace reaches. */
  scopeOf(namespace: string): string {
    return namespace === this.#view.settings.rootNamespace ? EVERYWHERE : namespace;
  }

  read({ key, before, after }: ObjectChange): void {
    const object = after ?? before;
    if (object === undefined) return;
    const { namespace, name } = object.meta;
    switch (object.kind) {
      case 'Pod':
        this.#backlog.workloads.add(key);
        for (const gateway of this.#indexes.waypoints.refreshPod(namespace, name)) this.#waypointPolicyChanged(gateway);
        break;
      case 'WorkloadEntry':
        this.#backlog.workloads.add(key);
        break;
      case 'Service':
        this.#readService(namespace, name);
        break;
      case 'EndpointSlice':
        this.#readSlice(namespace, name);
        break;
      case 'ServiceEntry':
        this.#readEntry(namespace, name);
        break;
      case 'Namespace':
        this.#readNamespace(name, ofKind(before, 'Namespace'), ofKind(after, 'Namespace'));
        break;
      case 'Node':
        this.#readNode(name, ofKind(before, 'Node'), ofKind(after, 'Node'));
        break;
      case 'Gateway':
        this.#readGateway(namespace, name);
        break;
      case 'GatewayClass':
        for (const gateway of this.#view.store.all('Gateway')) {
          if (gateway.className === name) this.#readGateway(gateway.meta.namespace, gateway.meta.name);
        }
        this.#retarget();
        break;
      case 'AuthorizationPolicy':
      case 'PeerAuthentication':
        this.#backlog.policies.add(key);
        break;
      case 'MeshConfig':
        if (this.#view.refreshMeshConfig()) this.#backlog.sweepWhere('MeshConfig', isEntry);
        break;
      case 'ServiceAccount':
        break;
      default:
        unreachable(object);
    }
  }

  #readService(namespace: string, name: string): void {
    const { members, slices, hosts } = this.#indexes;
    const service = this.#view.store.find('Service', namespace, name);
    const before = members.find(namespace, serviceMember(name));
    const after = service && this.#memberOf(service);
    if (!sameValue(before, after)) {
      if (after === undefined) members.delete(namespace, serviceMember(name));
      else members.set(namespace, serviceMember(name), after);
      for (const member of [before, after]) {
        if (member !== undefined) this.#backlog.sweepSelected(namespace, member.selector);
      }
    }
    // Its endpoints name the policies of its waypoint.
    if (this.#indexes.waypoints.enabled && after !== undefined) this.#backlog.sweepSelected(namespace, after.selector);
    for (const slice of slices.ofService(namespace, name)) this.#readSlice(namespace, slice);
    this.#backlog.hosts.add(serviceKey(namespace, name, this.#view.settings));
    this.#backlog.conditions.add(`Service/${namespace}/${name}`);
    for (const entry of hosts.entriesOf(serviceHostname(namespace, name, this.#view.settings))) {
      this.#entryChanged(entry);
    }
    this.#retarget(namespace);
  }

  #memberOf(service: Service): Member | undefined {
    if (service.type === 'ExternalName' || service.selector.size === 0) return undefined;
    return {
      kind: 'service',
      selector: service.selector,
      service: endpointService(service, this.#view.settings),
    };
  }

  #readSlice(namespace: string, name: string): void {
    this.#backlog.workloads.add(`EndpointSlice/${namespace}/${name}`);
    for (const pod of this.#indexes.slices.refresh(namespace, name)) this.#podChanged(namespace, pod);
  }

  #podChanged(namespace: string, name: string): void {
    const pod = this.#view.store.find('Pod', namespace, name);
    if (pod !== undefined) this.#backlog.addStale(pod);
  }

  #readEntry(namespace: string, name: string): void {
    const { members, hosts } = this.#indexes;
    const entry = this.#view.store.find('ServiceEntry', namespace, name);
    const before = members.find(namespace, entryMember(name));
    if (entry?.selector === undefined) members.delete(namespace, entryMember(name));
    else members.set(namespace, entryMember(name), { kind: 'entry', selector: entry.selector, entry: name });
    if (before !== undefined) this.#backlog.sweepSelected(namespace, before.selector);
    this.#entryChanged(`${namespace}/${name}`);
    for (const host of hosts.refresh(namespace, name)) {
      this.#backlog.hosts.add(`${namespace}/${host}`);
      for (const other of hosts.entriesOf(host)) this.#entryChanged(other);
    }
    this.#retarget(namespace);
  }

  /** Everything that comes from the entry `<namespace>/<name>`: hosts, endpoints, the workloads it selects. */
  #entryChanged(key: string): void {
    const [namespace = '', name = ''] = key.split('/');
    this.#backlog.conditions.add(`ServiceEntry/${key}`);
    this.#backlog.workloads.add(`ServiceEntry/${key}`);
    const entry = this.#view.store.find('ServiceEntry', namespace, name);
    for (const host of entry?.hosts ?? []) this.#backlog.hosts.add(`${namespace}/${host}`);
    if (entry?.selector !== undefined) this.#backlog.sweepSelected(namespace, entry.selector);
  }

  /** Every Service and every entry of a namespace, and the entries that share hosts with them. */
  #servicesOf(namespace: string): void {
    for (const service of this.#view.store.inNamespace('Service', namespace)) this.staleObject(service);
    for (const entry of this.#view.store.inNamespace('ServiceEntry', namespace)) this.staleObject(entry);
  }

  #readNamespace(name: string, before: Namespace | undefined, after: Namespace | undefined): void {
    if (name === this.#view.settings.rootNamespace && this.#view.refreshNetwork()) this.#everythingChanged();
    const labels = !sameValue(before?.meta.labels, after?.meta.labels);
    if (!labels && sameValue(before?.meta.annotations, after?.meta.annotations)) return;
    this.#servicesOf(name);
    this.#retarget(name);
    // Labels bind workloads to waypoints and are what waypoints admit namespaces by.
    if (labels) this.#backlog.sweep(name);
  }

  #readNode(name: string, before: Node | undefined, after: Node | undefined): void {
    if (!sameValue(nodeLocality(before), nodeLocality(after))) this.#backlog.nodes.add(name);
  }

  #readGateway(namespace: string, name: string): void {
    this.#retarget(namespace);
    if (!this.#refreshGateway(namespace, name)) return;
    this.#retarget();
    this.#waypointPolicyChanged(`${namespace}/${name}`);
    if (this.#indexes.waypoints.enabled) this.#backlog.sweep(EVERYWHERE);
    this.#backlog.sweepWhere(`Gateway ${namespace}/${name}`, ({ meta }) => {
      const own = meta.namespace === namespace;
      if (own && (meta.labels.get(GATEWAY_NAME_LABEL) === name || meta.owner?.name === name)) return true;
      return referencedWaypoints(meta, this.#view).some((used) => used.namespace === namespace && used.name === name);
    });
  }

  /** True when the mesh has something else to do with the Gateway than before. */
  #refreshGateway(namespace: string, name: string): boolean {
    const changed = this.#view.refreshGateway(namespace, name);
    if (changed === undefined) return false;
    const networks = [changed.before?.network, changed.after?.network].filter((network) => network !== undefined);
    for (const { network } of networks) this.#backlog.networks.add(network);
    // Entries may lie in any network.
    if (networks.length > 0) this.#backlog.sweepWhere('networks', isAnyEntry);
    return true;
  }

  /** Another network: it is in every address. */
  #everythingChanged(): void {
    for (const { meta } of this.#view.store.all('Gateway')) this.#refreshGateway(meta.namespace, meta.name);
    this.#backlog.sweepWhere('everything', () => true);
    this.#retarget();
  }

  staleWorkloads(object: MeshObject): void {
    if (object.kind === 'Pod') this.#backlog.addStale(object);
    else this.#backlog.staleWorkloads.add(objectKey(object));
  }

  staleObject(object: MeshObject): void {
    const { namespace, name } = object.meta;
    switch (object.kind) {
      case 'Service':
        this.#backlog.hosts.add(serviceKey(namespace, name, this.#view.settings));
        this.#backlog.conditions.add(`Service/${namespace}/${name}`);
        break;
      case 'ServiceEntry':
        this.#entryChanged(`${namespace}/${name}`);
        for (const host of object.hosts) {
          for (const other of this.#indexes.hosts.entriesOf(host)) this.#entryChanged(other);
        }
        break;
      default:
        this.staleWorkloads(object);
    }
  }

  #waypointPolicyChanged(gateway: string): void {
    if (this.#indexes.waypoints.enabled) this.#backlog.policies.add(`Gateway/${gateway}`);
  }

  /** Policies with targetRefs, of a namespace or all: what is said of them depends on their targets. */
  #retarget(namespace?: string): void {
    for (const policy of this.#indexes.policies.targetedPolicies(namespace)) {
      this.#backlog.policies.add(`AuthorizationPolicy/${policy.namespace}/${policy.name}`);
    }
  }
}

function serviceMember(name: string): string {
  return `service ${name}`;
}

function entryMember(name: string): string {
  return `entry ${name}`;
}

function isEntry(object: MeshObject): boolean {
  return object.kind === 'ServiceEntry';
}

function isAnyEntry(object: MeshObject): boolean {
  return object.kind === 'ServiceEntry' || object.kind === 'WorkloadEntry';
}

function ofKind<K extends ObjectKind>(
  object: MeshObject | undefined,
  kind: K,
): Extract<MeshObject, { kind: K }> | undefined {
  return object !== undefined && isKind(object, kind) ? object : undefined;
}

function isKind<K extends ObjectKind>(object: MeshObject, kind: K): object is Extract<MeshObject, { kind: K }> {
  return object.kind === kind;
}
