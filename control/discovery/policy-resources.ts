/**
 * Policies of both kinds as resources, and which of them a workload names. What policies mean is decided in
 * control/policy; this is the bookkeeping around it.
 */
import type { AuthorizationPolicy } from '../objects/authorization-policy.ts';
import type { ObjectMeta } from '../objects/metadata.ts';
import type { PeerAuthentication } from '../objects/peer-authentication.ts';
import { type ConvertedPolicy, convertAuthorizationPolicy } from '../policy/authorization.ts';
import {
  convertPeerAuthentication,
  type MutualTlsLevels,
  mutualTlsPolicyKey,
  oldest,
  peerAuthenticationCondition,
  staticStrictPolicy,
} from '../policy/mutual-tls.ts';
import type { Conditions } from './conditions.ts';
import type { MeshView } from './mesh-view.ts';
import { findPolicyTarget } from './policy-targets.ts';
import {
  AUTHORIZATION_TYPE,
  authorizationName,
  authorizationResource,
  type Resource,
  type ResourceUpdate,
} from './resource.ts';
import { sameValue } from './same-value.ts';
import { SelectorIndex } from './selector-index.ts';

type Selector = ReadonlyMap<string, string>;

/** Workloads that must be built anew. */
export type Affected =
  | { readonly kind: 'none' }
  /** Those that any of the selectors selects. */
  | { readonly kind: 'selected'; readonly selectors: readonly Selector[] }
  | { readonly kind: 'all' };

export interface PolicyChange {
  readonly updates: readonly ResourceUpdate[];
  /** A policy that must stay as it is announced until its workloads were built anew: then it is `readLate`. */
  readonly late?: string;
  /** Of the namespace of the policy, or of the mesh where that is the root namespace. */
  readonly affected: Affected;
}

export class PolicyResources {
  readonly #view: MeshView;
  readonly #conditions: Conditions;
  /** Selector policies that agents receive, by namespace. */
  readonly #selecting = new SelectorIndex<{ readonly selector: Selector; readonly name: string }>();
  /** AuthorizationPolicies with targetRefs by namespace: their conditions depend on other objects. */
  readonly #targeted = new Map<string, Set<string>>();
  /** Names of AuthorizationPolicies that are announced for a whole namespace, or the mesh. */
  readonly #wide = new Set<string>();
  /** PeerAuthentications by namespace and name. */
  readonly #peers = new Map<string, Map<string, PeerAuthentication>>();
  readonly #selectingPeers = new SelectorIndex<{ readonly selector: Selector; readonly peer: PeerAuthentication }>();
  /** Names of the policies made from the PeerAuthentications of each namespace. */
  readonly #convertedPeers = new Map<string, ReadonlySet<string>>();

  constructor(view: MeshView, conditions: Conditions) {
    this.#view = view;
    this.#conditions = conditions;
  }

  /** Reads an AuthorizationPolicy anew. */
  refreshAuthorization(namespace: string, name: string): PolicyChange {
    const policy = this.#view.store.find('AuthorizationPolicy', namespace, name);
    const converted = policy && this.#convert(policy);
    this.#conditions.set(`AuthorizationPolicy/${namespace}/${name}`, [converted?.condition]);
    this.#noteTargets(namespace, name, policy);
    const authorization = converted?.authorization;
    const before = this.#selecting.find(namespace, name)?.selector;
    const after = authorization === undefined ? undefined : policy?.selector;
    if (after === undefined) this.#selecting.delete(namespace, name);
    else this.#selecting.set(namespace, name, { selector: after, name: `${namespace}/${name}` });
    const key = `${namespace}/${name}`;
    const affected = affectedBy(before, after);
    // From all to some: those that it is for must name it before it is no longer for all.
    if (after !== undefined && this.#wide.has(key)) return { updates: [], late: key, affected };
    if (authorization !== undefined && after === undefined) this.#wide.add(key);
    const resource = authorization === undefined ? undefined : authorizationResource(authorization);
    return { updates: [{ type: AUTHORIZATION_TYPE, name: key, resource }], affected };
  }

  /** What `<namespace>/<name>` is now that no workload is left to be built: a policy for some, or nothing. */
  readLate(key: string): ResourceUpdate {
    const [namespace = '', name = ''] = key.split('/');
    const policy = this.#view.store.find('AuthorizationPolicy', namespace, name);
    const authorization = policy?.selector === undefined ? undefined : this.#convert(policy).authorization;
    this.#wide.delete(key);
    // It was there before: clients get it after the workloads that were announced before it.
    const resource = authorization && { ...authorizationResource(authorization), late: true };
    return { type: AUTHORIZATION_TYPE, name: key, resource };
  }

  /** Reads a PeerAuthentication anew. */
  refreshPeer(namespace: string, name: string): PolicyChange {
    const isRoot = namespace === this.#view.settings.rootNamespace;
    const peers = this.#peers.get(namespace) ?? new Map<string, PeerAuthentication>();
    const before = peers.get(name);
    const after = this.#view.store.find('PeerAuthentication', namespace, name);
    if (after === undefined) peers.delete(name);
    else peers.set(name, after);
    if (peers.size === 0) this.#peers.delete(namespace);
    else this.#peers.set(namespace, peers);
    this.#selectingPeers.delete(namespace, name);
    // A selector in the root namespace selects nothing.
    if (after?.selector !== undefined && !isRoot) {
      this.#selectingPeers.set(namespace, name, { selector: after.selector, peer: after });
    }
    if (after === undefined) this.#conditions.set(`PeerAuthentication/${namespace}/${name}`, []);
    const wide = [before, after].some((peer) => peer !== undefined && peer.selector === undefined);
    const updates: ResourceUpdate[] = [];
    // A mode of the mesh is a mode of every namespace.
    const namespaces = isRoot && wide ? new Set([namespace, ...this.#peers.keys()]) : [namespace];
    for (const changed of namespaces) updates.push(...this.#updatePeers(changed));
    updates.push(this.#staticStrict());
    if (wide) return { updates, affected: { kind: 'all' } };
    const selectors = isRoot ? [] : [before?.selector, after?.selector].filter((selector) => selector !== undefined);
    return { updates, affected: { kind: 'selected', selectors } };
  }

  /** AuthorizationPolicies whose targets may have changed, of a namespace or of all. */
  *targetedPolicies(namespace?: string): Iterable<{ readonly namespace: string; readonly name: string }> {
    for (const of of namespace === undefined ? this.#targeted.keys() : [namespace]) {
      for (const name of this.#targeted.get(of) ?? []) yield { namespace: of, name };
    }
  }

  /** Names of selector policies of the workload's and of the root namespace, sorted; then its mTLS policy. */
  policiesOf(namespace: string, labels: ReadonlyMap<string, string>): string[] {
    const { rootNamespace } = this.#view.settings;
    const names = this.#selecting.matching(namespace, labels).map((policy) => policy.name);
    if (namespace !== rootNamespace) {
      for (const policy of this.#selecting.matching(rootNamespace, labels)) names.push(policy.name);
    }
    if (names.length > 1) names.sort();
    if (this.#peers.size === 0) return names;
    const mutualTls = mutualTlsPolicyKey(this.#levelsOf(namespace, labels), rootNamespace);
    if (mutualTls !== undefined) names.push(mutualTls);
    return names;
  }

  #convert(policy: AuthorizationPolicy): ConvertedPolicy {
    return convertAuthorizationPolicy(policy, this.#view.settings.rootNamespace, (target, namespace) =>
      findPolicyTarget(target, namespace, this.#view),
    );
  }

  #noteTargets(namespace: string, name: string, policy: AuthorizationPolicy | undefined): void {
    const names = this.#targeted.get(namespace) ?? new Set<string>();
    if (policy !== undefined && policy.targets.length > 0) names.add(name);
    else names.delete(name);
    if (names.size === 0) this.#targeted.delete(namespace);
    else this.#targeted.set(namespace, names);
  }

  /** Converted policies and conditions of a namespace. */
  #updatePeers(namespace: string): ResourceUpdate[] {
    const { rootNamespace } = this.#view.settings;
    const before = this.#convertedPeers.get(namespace) ?? new Set<string>();
    const resources = new Map<string, Resource>();
    const shared = this.#sharedLevels(namespace);
    const peers = [...(this.#peers.get(namespace)?.values() ?? [])];
    for (const peer of peers) {
      const counting = oldest(peers.filter((other) => sameValue(other.selector, peer.selector)));
      const condition = peerAuthenticationCondition(peer, counting, rootNamespace);
      this.#conditions.set(`PeerAuthentication/${namespace}/${peer.meta.name}`, [condition]);
      if (peer.selector === undefined || namespace === rootNamespace) continue;
      const authorization = convertPeerAuthentication({ ...shared, workload: peer });
      if (authorization === undefined) continue;
      resources.set(authorizationName(authorization), authorizationResource(authorization));
    }
    if (resources.size === 0) this.#convertedPeers.delete(namespace);
    else this.#convertedPeers.set(namespace, new Set(resources.keys()));
    const names = new Set([...before, ...resources.keys()]);
    return [...names].map((name) => ({ type: AUTHORIZATION_TYPE, name, resource: resources.get(name) }));
  }

  /** Served as soon as any PeerAuthentication exists, so that it is there before a workload names it. */
  #staticStrict(): ResourceUpdate {
    const authorization = staticStrictPolicy(this.#view.settings.rootNamespace);
    const resource = this.#peers.size > 0 ? authorizationResource(authorization) : undefined;
    return { type: AUTHORIZATION_TYPE, name: authorizationName(authorization), resource };
  }

  #levelsOf(namespace: string, labels: ObjectMeta['labels']): MutualTlsLevels {
    const selecting = this.#selectingPeers.matching(namespace, labels);
    return { ...this.#sharedLevels(namespace), workload: oldest(selecting.map(({ peer }) => peer)) };
  }

  #sharedLevels(namespace: string): Omit<MutualTlsLevels, 'workload'> {
    const { rootNamespace } = this.#view.settings;
    return {
      mesh: this.#widest(rootNamespace),
      namespace: namespace === rootNamespace ? undefined : this.#widest(namespace),
    };
  }

  #widest(namespace: string): PeerAuthentication | undefined {
    const peers = this.#peers.get(namespace);
    if (peers === undefined) return undefined;
    return oldest([...peers.values()].filter((peer) => peer.selector === undefined));
  }
}

function affectedBy(before: Selector | undefined, after: Selector | undefined): Affected {
  if (sameValue(before, after)) return { kind: 'none' };
  return { kind: 'selected', selectors: [before, after].filter((selector) => selector !== undefined) };
}
