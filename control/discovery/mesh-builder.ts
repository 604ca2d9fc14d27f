/**
 * Objects -> resources, incrementally: a change rebuilds what can depend on it and nothing else. The result always
 * equals a build of everything from scratch (a test churns objects at random and compares).
 *
 * Dependencies: a pod's resource depends on its node, the services of its namespace and the policies of its and of the
 * root namespace; a service's on its namespace; a converted policy on its own object, mTLS policies on their levels.
 */
import type { ObjectChange, ObjectStore } from '../model/object-store.ts';
import { selects } from '../objects/metadata.ts';
import { namespacedName, type ObjectKey } from '../objects/object.ts';
import type { PeerAuthentication } from '../objects/peer-authentication.ts';
import type { Pod } from '../objects/pod.ts';
import { type ConvertedPolicy, convertAuthorizationPolicy } from '../policy/authorization.ts';
import { refused } from '../policy/condition.ts';
import {
  convertPeerAuthentication,
  type MutualTlsLevels,
  mutualTlsPolicyKey,
  oldest,
  staticStrictPolicy,
} from '../policy/mutual-tls.ts';
import type { MeshSettings } from '../settings.ts';
import type { ObjectCondition } from './condition.ts';
import { Invalidation } from './invalidation.ts';
import {
  ADDRESS_TYPE,
  AUTHORIZATION_TYPE,
  authorizationName,
  authorizationResource,
  type Resource,
  type ResourceUpdate,
  serviceResource,
  workloadResource,
} from './resource.ts';
import { buildService, serviceKey } from './service.ts';
import { buildWorkload, podUid } from './workload.ts';

export class MeshBuilder {
  readonly #store: ObjectStore;
  readonly #settings: MeshSettings;
  readonly #converted = new Map<string, ConvertedPolicy>();
  /** Names of the policies made from the PeerAuthentications of each namespace. */
  readonly #mutualTlsNames = new Map<string, ReadonlySet<string>>();

  constructor(store: ObjectStore, settings: MeshSettings) {
    this.#store = store;
    this.#settings = settings;
  }

  /** What agents must be told after `changes`, which the store has taken already. Unchanged resources may be included. */
  update(changes: readonly ObjectChange[]): ResourceUpdate[] {
    const dirty = new Invalidation(this.#settings.rootNamespace);
    for (const change of changes) dirty.add(change);
    const updates: ResourceUpdate[] = [];
    for (const name of dirty.policies) updates.push(this.#updatePolicy(name));
    for (const namespace of this.#namespacesOf(dirty.mutualTls)) updates.push(...this.#updateMutualTls(namespace));
    if (dirty.mutualTls.size > 0) updates.push(this.#updateStaticStrict());
    for (const change of dirty.services) updates.push(...this.#updateService(change));
    for (const namespace of dirty.serviceNamespaces) {
      for (const service of this.#store.inNamespace('Service', namespace)) {
        updates.push(...this.#updateService({ key: '', before: service, after: service }));
      }
    }
    for (const { before, after } of dirty.pods) {
      if (after !== undefined) updates.push(this.#updatePod(after));
      else if (before !== undefined) updates.push(this.#podUpdate(before, undefined));
    }
    for (const pod of this.#podsOf(dirty)) updates.push(this.#updatePod(pod));
    return updates;
  }

  /**
   * As `update`, in slices of a few milliseconds each: run one, publish what it gave, let others have the thread, go on.
   * Nothing is lost when a run is abandoned: the next one takes over what is left.
   */
  *updateInSlices(changes: readonly ObjectChange[]): Generator<readonly ResourceUpdate[], void, void> {
    yield this.update(changes);
  }

  /** What became of each object, by `<kind>/<namespace>/<name>`. */
  conditions(): ReadonlyMap<ObjectKey, readonly ObjectCondition[]> {
    const result = new Map<ObjectKey, ObjectCondition[]>();
    for (const [name, { condition }] of this.#converted) result.set(`AuthorizationPolicy/${name}`, [condition]);
    for (const peer of this.#store.all('PeerAuthentication')) {
      if (peer.selector !== undefined && peer.meta.namespace === this.#settings.rootNamespace) {
        const message =
          'A selector in the root namespace selects nothing; write the policy in the namespace it is for.';
        result.set(`PeerAuthentication/${namespacedName(peer)}`, [refused('Invalid', message)]);
      }
    }
    return result;
  }

  #updatePolicy(name: string): ResourceUpdate {
    const [namespace = '', objectName = ''] = name.split('/');
    const policy = this.#store.find('AuthorizationPolicy', namespace, objectName);
    if (policy === undefined) {
      this.#converted.delete(name);
      return { type: AUTHORIZATION_TYPE, name, resource: undefined };
    }
    const converted = convertAuthorizationPolicy(policy, this.#settings.rootNamespace);
    this.#converted.set(name, converted);
    const { authorization } = converted;
    const resource = authorization === undefined ? undefined : authorizationResource(authorization);
    return { type: AUTHORIZATION_TYPE, name, resource };
  }

  /** A change in the root namespace is a change of every namespace that has PeerAuthentications. */
  #namespacesOf(changed: ReadonlySet<string>): Set<string> {
    const namespaces = new Set(changed);
    if (changed.has(this.#settings.rootNamespace)) {
      for (const peer of this.#store.all('PeerAuthentication')) namespaces.add(peer.meta.namespace);
    }
    return namespaces;
  }

  #updateMutualTls(namespace: string): ResourceUpdate[] {
    const before = this.#mutualTlsNames.get(namespace) ?? new Set<string>();
    const resources = new Map<string, Resource>();
    for (const workload of this.#selectorPeerAuthentications(namespace)) {
      const authorization = convertPeerAuthentication({ ...this.#sharedLevels(namespace), workload });
      if (authorization !== undefined)
        resources.set(authorizationName(authorization), authorizationResource(authorization));
    }
    this.#mutualTlsNames.set(namespace, new Set(resources.keys()));
    const names = new Set([...before, ...resources.keys()]);
    return [...names].map((name) => ({ type: AUTHORIZATION_TYPE, name, resource: resources.get(name) }));
  }

  /** Served as soon as any PeerAuthentication exists, so that it is there before a workload names it. */
  #updateStaticStrict(): ResourceUpdate {
    const authorization = staticStrictPolicy(this.#settings.rootNamespace);
    const needed = !this.#store.all('PeerAuthentication')[Symbol.iterator]().next().done;
    const resource = needed ? authorizationResource(authorization) : undefined;
    return { type: AUTHORIZATION_TYPE, name: authorizationName(authorization), resource };
  }

  *#updateService({ before, after }: ObjectChange): Iterable<ResourceUpdate> {
    const object = after ?? before;
    if (object?.kind !== 'Service') return;
    const namespace = this.#store.find('Namespace', '', object.meta.namespace);
    const built = after === undefined ? undefined : buildService(object, namespace, this.#settings);
    const resource = built === undefined ? undefined : serviceResource(built);
    yield { type: ADDRESS_TYPE, name: serviceKey(object, this.#settings), resource };
  }

  #podsOf(dirty: Invalidation): Set<Pod> {
    const pods = new Set<Pod>();
    if (dirty.everyPod) for (const pod of this.#store.all('Pod')) pods.add(pod);
    for (const namespace of dirty.podNamespaces)
      for (const pod of this.#store.inNamespace('Pod', namespace)) pods.add(pod);
    for (const node of dirty.nodes) for (const pod of this.#store.podsOnNode(node)) pods.add(pod);
    return pods;
  }

  #updatePod(pod: Pod): ResourceUpdate {
    const { namespace } = pod.meta;
    const around = {
      node: this.#store.find('Node', '', pod.nodeName),
      services: this.#store.inNamespace('Service', namespace),
      policies: this.#policiesOf(pod),
    };
    const workload = buildWorkload(pod, around, this.#settings);
    return this.#podUpdate(pod, workload === undefined ? undefined : workloadResource(workload));
  }

  #podUpdate(pod: Pod, resource: Resource | undefined): ResourceUpdate {
    const name = podUid(this.#settings.clusterId, pod.meta.namespace, pod.meta.name);
    return { type: ADDRESS_TYPE, name, resource };
  }

  /** Selector policies of the pod's and the root namespace that agents receive, sorted; then its mTLS policy. */
  #policiesOf(pod: Pod): string[] {
    const names: string[] = [];
    for (const namespace of new Set([pod.meta.namespace, this.#settings.rootNamespace])) {
      for (const policy of this.#store.inNamespace('AuthorizationPolicy', namespace)) {
        if (policy.selector === undefined || !selects(policy.selector, pod.meta.labels)) continue;
        const name = namespacedName(policy);
        if (this.#converted.get(name)?.authorization !== undefined) names.push(name);
      }
    }
    names.sort();
    const mutualTls = mutualTlsPolicyKey(this.#levelsOf(pod), this.#settings.rootNamespace);
    if (mutualTls !== undefined) names.push(mutualTls);
    return names;
  }

  #levelsOf(pod: Pod): MutualTlsLevels {
    const selecting = this.#selectorPeerAuthentications(pod.meta.namespace).filter(
      (peer) => peer.selector !== undefined && selects(peer.selector, pod.meta.labels),
    );
    return { ...this.#sharedLevels(pod.meta.namespace), workload: oldest(selecting) };
  }

  #sharedLevels(namespace: string): {
    mesh: PeerAuthentication | undefined;
    namespace: PeerAuthentication | undefined;
  } {
    const { rootNamespace } = this.#settings;
    const widest = (of: string) =>
      oldest([...this.#store.inNamespace('PeerAuthentication', of)].filter((peer) => peer.selector === undefined));
    return { mesh: widest(rootNamespace), namespace: namespace === rootNamespace ? undefined : widest(namespace) };
  }

  /** Those of the root namespace select nothing. */
  #selectorPeerAuthentications(namespace: string): PeerAuthentication[] {
    if (namespace === this.#settings.rootNamespace) return [];
    return [...this.#store.inNamespace('PeerAuthentication', namespace)].filter((peer) => peer.selector !== undefined);
  }
}
