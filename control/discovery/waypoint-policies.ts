/**
 * With `allowOnlyWaypoints`: workloads behind a waypoint accept connections from the waypoint alone. Each waypoint that
 * can be used has one ALLOW policy for the accounts its pods run as; the workloads behind it name that policy. A waypoint
 * without pods has none: nobody can say yet who it will be.
 */
import { create } from '@bufbuild/protobuf';
import { Action, AuthorizationSchema, Scope } from '../../api/gen/istio/security/authorization_pb.js';
import type { MeshView } from './mesh-view.ts';
import type { PolicyChange } from './policy-resources.ts';
import { AUTHORIZATION_TYPE, authorizationResource } from './resource.ts';
import { GATEWAY_NAME_LABEL, type Waypoint } from './waypoint.ts';
import type { WaypointBinding } from './waypoint-binding.ts';

export class WaypointPolicies {
  readonly #view: MeshView;
  /** Waypoint `<namespace>/<name>` to its pods and their accounts. */
  readonly #accounts = new Map<string, Map<string, string>>();
  /** Pod `<namespace>/<name>` to the waypoint it belongs to. */
  readonly #gatewayOf = new Map<string, string>();
  readonly #announced = new Set<string>();

  constructor(view: MeshView) {
    this.#view = view;
  }

  get enabled(): boolean {
    return this.#view.settings.allowOnlyWaypoints === true;
  }

  /** Reads a pod anew. Gives the waypoints `<namespace>/<name>` that it belongs or belonged to. */
  refreshPod(namespace: string, name: string): Set<string> {
    const pod = this.#view.store.find('Pod', namespace, name);
    const label = pod?.meta.labels.get(GATEWAY_NAME_LABEL);
    const before = this.#gatewayOf.get(`${namespace}/${name}`);
    const after = label === undefined ? undefined : `${namespace}/${label}`;
    if (before !== undefined) {
      const pods = this.#accounts.get(before);
      pods?.delete(name);
      if (pods?.size === 0) this.#accounts.delete(before);
      this.#gatewayOf.delete(`${namespace}/${name}`);
    }
    if (pod !== undefined && after !== undefined) {
      const pods = this.#accounts.get(after) ?? new Map<string, string>();
      pods.set(name, pod.serviceAccount);
      this.#accounts.set(after, pods);
      this.#gatewayOf.set(`${namespace}/${name}`, after);
    }
    return new Set([before, after].filter((gateway) => gateway !== undefined));
  }

  /** The policy of a waypoint. Everything is affected when it comes or goes: workloads of any namespace may name it. */
  refresh(namespace: string, name: string): PolicyChange {
    const policyName = `istio_allow_waypoint_${namespace}_${name}`;
    const key = `${namespace}/${policyName}`;
    const accounts = this.#accountsOf(namespace, name);
    const existed = this.#announced.has(key);
    if (accounts.length > 0) this.#announced.add(key);
    else this.#announced.delete(key);
    const { trustDomain } = this.#view.settings;
    const principals = accounts.map((account) => ({
      matchType: { case: 'exact', value: `${trustDomain}/ns/${namespace}/sa/${account}` } as const,
    }));
    const authorization = create(AuthorizationSchema, {
      namespace,
      name: policyName,
      scope: Scope.WORKLOAD_SELECTOR,
      action: Action.ALLOW,
      groups: [{ rules: [{ matches: [{ principals }] }] }],
    });
    const resource = accounts.length > 0 ? authorizationResource(authorization) : undefined;
    return {
      updates: [{ type: AUTHORIZATION_TYPE, name: key, resource }],
      affected: existed === accounts.length > 0 ? { kind: 'none' } : { kind: 'all' },
    };
  }

  /** Names of the policies of the waypoints that the bindings lead to, sorted. */
  namesFor(bindings: readonly WaypointBinding[]): string[] {
    const names = new Set<string>();
    for (const { waypoint, canary } of bindings) {
      for (const one of [waypoint, canary?.waypoint]) if (one !== undefined) this.#addName(one, names);
    }
    return [...names].sort();
  }

  #addName({ namespace, name }: Waypoint, names: Set<string>): void {
    const key = `${namespace}/istio_allow_waypoint_${namespace}_${name}`;
    if (this.#accountsOf(namespace, name).length > 0) names.add(key);
  }

  /** Ascending; none while there is no such policy. */
  #accountsOf(namespace: string, name: string): string[] {
    if (!this.enabled || this.#view.findWaypoint(namespace, name) === undefined) return [];
    return [...new Set(this.#accounts.get(`${namespace}/${name}`)?.values() ?? [])].sort();
  }
}
