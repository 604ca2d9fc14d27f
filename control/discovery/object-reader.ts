/**
 * What a changed object makes stale: the dependency table of the builder, in one place. Indexes are read anew from the
 * object store, so that they are right even when it is ahead of the change.
 */
import { unreachable } from '../../core/errors.ts';
import type { ObjectChange } from '../model/object-store.ts';
import type { Namespace, Node } from '../objects/cluster.ts';
import type { MeshObject, ObjectKind } from '../objects/object.ts';
import type { Service } from '../objects/service.ts';
import { type Backlog, EVERYWHERE } from './backlog.ts';
import type { MeshView } from './mesh-view.ts';
import { sameValue } from './same-value.ts';
import { endpointService, serviceHostname, serviceKey } from './service.ts';
import { GATEWAY_NAME_LABEL } from './waypoint.ts';
import { referencedWaypoints } from './waypoint-binding.ts';
import { nodeLocality } from './workload-fields.ts';
import type { Member, WorkloadIndexes } from './workload-resources.ts';

export class ObjectReader {
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
        if (this.#view.refreshMeshConfig()) this.#entriesChanged(EVERYWHERE);
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

  /** Every entry of a namespace, and those that share hosts with it. */
  #entriesChanged(scope: string): void {
    const { store } = this.#view;
    for (const entry of scope === EVERYWHERE ? store.all('ServiceEntry') : store.inNamespace('ServiceEntry', scope)) {
      this.#entryChanged(`${entry.meta.namespace}/${entry.meta.name}`);
      for (const host of entry.hosts) {
        for (const other of this.#indexes.hosts.entriesOf(host)) this.#entryChanged(other);
      }
    }
  }

  #servicesChanged(scope: string): void {
    const { store, settings } = this.#view;
    for (const service of scope === EVERYWHERE ? store.all('Service') : store.inNamespace('Service', scope)) {
      const { namespace, name } = service.meta;
      this.#backlog.hosts.add(serviceKey(namespace, name, settings));
      this.#backlog.conditions.add(`Service/${namespace}/${name}`);
    }
  }

  #readNamespace(name: string, before: Namespace | undefined, after: Namespace | undefined): void {
    if (name === this.#view.settings.rootNamespace && this.#view.refreshNetwork()) this.#everythingChanged();
    const labels = !sameValue(before?.meta.labels, after?.meta.labels);
    if (!labels && sameValue(before?.meta.annotations, after?.meta.annotations)) return;
    this.#servicesChanged(name);
    this.#entriesChanged(name);
    this.#retarget(name);
    // Labels bind workloads to waypoints and are what waypoints admit namespaces by.
    if (labels) this.#backlog.sweep(name);
  }

  #readNode(name: string, before: Node | undefined, after: Node | undefined): void {
    if (!sameValue(nodeLocality(before), nodeLocality(after))) this.#backlog.nodes.add(name);
  }

  #readGateway(namespace: string, name: string): void {
    const changed = this.#view.refreshGateway(namespace, name);
    this.#retarget(namespace);
    if (changed === undefined) return;
    const networks = [changed.before?.network, changed.after?.network].filter((network) => network !== undefined);
    for (const { network } of networks) this.#backlog.networks.add(network);
    if (networks.length > 0) this.#everyEntry();
    this.#usersChanged(namespace, name);
    this.#retarget();
  }

  /** Everything that names the waypoint, and everything that belongs to it. */
  #usersChanged(namespace: string, name: string): void {
    const { store } = this.#view;
    const names = (meta: Parameters<typeof referencedWaypoints>[0]): boolean =>
      referencedWaypoints(meta, this.#view).some((used) => used.namespace === namespace && used.name === name);
    const belongs = (meta: MeshObject['meta']): boolean =>
      meta.namespace === namespace && (meta.labels.get(GATEWAY_NAME_LABEL) === name || meta.owner?.name === name);
    for (const service of store.all('Service')) {
      if (!names(service.meta) && !belongs(service.meta)) continue;
      this.#backlog.hosts.add(serviceKey(service.meta.namespace, service.meta.name, this.#view.settings));
      this.#backlog.conditions.add(`Service/${service.meta.namespace}/${service.meta.name}`);
    }
    for (const entry of store.all('ServiceEntry')) {
      if (names(entry.meta)) this.#entryChanged(`${entry.meta.namespace}/${entry.meta.name}`);
    }
    this.#backlog.sweepWhere(`Gateway ${namespace}/${name}`, (meta) => names(meta) || belongs(meta));
  }

  /** Entries may lie in any network. */
  #everyEntry(): void {
    for (const kind of ['WorkloadEntry', 'ServiceEntry'] as const) {
      for (const { meta } of this.#view.store.all(kind)) {
        this.#backlog.workloads.add(`${kind}/${meta.namespace}/${meta.name}`);
      }
    }
  }

  /** Another network: it is in every address. */
  #everythingChanged(): void {
    const { store } = this.#view;
    for (const { meta } of store.all('Gateway')) this.#readGateway(meta.namespace, meta.name);
    for (const { meta } of store.all('EndpointSlice')) {
      this.#backlog.workloads.add(`EndpointSlice/${meta.namespace}/${meta.name}`);
    }
    this.#servicesChanged(EVERYWHERE);
    this.#entriesChanged(EVERYWHERE);
    this.#backlog.sweep(EVERYWHERE);
    this.#retarget();
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

function ofKind<K extends ObjectKind>(
  object: MeshObject | undefined,
  kind: K,
): Extract<MeshObject, { kind: K }> | undefined {
  return object !== undefined && isKind(object, kind) ? object : undefined;
}

function isKind<K extends ObjectKind>(object: MeshObject, kind: K): object is Extract<MeshObject, { kind: K }> {
  return object.kind === kind;
}
