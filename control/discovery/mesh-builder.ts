/**
 * Objects -> resources, incrementally: a change rebuilds what can depend on it and nothing else. The result always
 * equals a build of everything from scratch (a test churns objects at random and compares).
 *
 * The work is done in slices (`updateInSlices`). Between two of them the object store may go on changing: all that
 * is remembered of a change is which object it was, and whatever is built is built from the objects as they are then.
 */
import type { ObjectChange, ObjectStore } from '../model/object-store.ts';
import type { ObjectKey } from '../objects/object.ts';
import type { MeshSettings } from '../settings.ts';
import { Backlog, EVERYWHERE } from './backlog.ts';
import type { ObjectCondition } from './condition.ts';
import { Conditions } from './conditions.ts';
import { HostIndex } from './host-index.ts';
import { MeshView } from './mesh-view.ts';
import { ObjectReader } from './object-reader.ts';
import { type PolicyChange, PolicyResources } from './policy-resources.ts';
import type { ResourceUpdate } from './resource.ts';
import { SelectorIndex } from './selector-index.ts';
import { ServiceResources } from './service-resources.ts';
import { SliceIndex } from './slice-index.ts';
import { COST_OF_LOOK, sweepObjects } from './sweep.ts';
import { WaypointPolicies } from './waypoint-policies.ts';
import { type Member, WorkloadResources } from './workload-resources.ts';

/**
 * Work of one slice, in workloads built (some 10 µs each with all that is looked up): about 2 ms. What other steps
 * cost is stated in the same unit.
 */
export const SLICE_COST = 150;
const COST_OF_OBJECT = 0.2;
const COST_OF_POLICY = 5;

export class MeshBuilder {
  readonly #backlog = new Backlog();
  readonly #conditions = new Conditions();
  readonly #policies: PolicyResources;
  readonly #waypoints: WaypointPolicies;
  readonly #services: ServiceResources;
  readonly #workloads: WorkloadResources;
  readonly #reader: ObjectReader;
  readonly #view: MeshView;
  readonly #sliceCost: number;
  #inbox: ObjectChange[][] = [];
  #sweep: Generator<number, void, void> | undefined;

  /** @param sliceCost work of one slice, in workloads built */
  constructor(store: ObjectStore, settings: MeshSettings, sliceCost: number = SLICE_COST) {
    this.#sliceCost = sliceCost;
    const view = new MeshView(store, settings);
    const hosts = new HostIndex(view);
    const slices = new SliceIndex(view);
    const members = new SelectorIndex<Member>();
    this.#view = view;
    this.#policies = new PolicyResources(view, this.#conditions);
    this.#services = new ServiceResources(view, hosts, this.#conditions);
    this.#waypoints = new WaypointPolicies(view);
    const indexes = { members, hosts, slices, policies: this.#policies, waypoints: this.#waypoints };
    this.#workloads = new WorkloadResources(view, indexes, this.#conditions);
    this.#reader = new ObjectReader(view, indexes, this.#backlog);
  }

  /** What agents must be told after `changes`, which the store has taken already. Unchanged resources may be included. */
  update(changes: readonly ObjectChange[]): ResourceUpdate[] {
    return [...this.updateInSlices(changes)].flat();
  }

  /**
   * As `update`, in slices of a few milliseconds each: run one, publish what it gave, let others have the thread, go on.
   * Nothing is lost when a run is abandoned: the next one takes over what is left, with no changes of its own if need be.
   */
  *updateInSlices(changes: readonly ObjectChange[]): Generator<readonly ResourceUpdate[], void, void> {
    this.accept(changes);
    let updates: ResourceUpdate[] = [];
    let cost = 0;
    for (;;) {
      const spent = this.#step(updates);
      if (spent === undefined) break;
      cost += spent;
      if (cost < this.#sliceCost) continue;
      yield updates;
      updates = [];
      cost = 0;
    }
    if (updates.length > 0) yield updates;
  }

  /** Notes changes while a run of `updateInSlices` is under way: it works them off too, before what it has left. */
  accept(changes: readonly ObjectChange[]): void {
    if (changes.length > 0) this.#inbox.push([...changes].reverse());
  }

  /** What became of each object, by `<kind>/<namespace>/<name>`. A live view: objects of which nothing is said are not in it. */
  conditions(): ReadonlyMap<ObjectKey, readonly ObjectCondition[]> {
    return this.#conditions.all;
  }

  /** Objects whose conditions changed since the last call; those that have none any more too. */
  takeChangedConditions(): ReadonlySet<ObjectKey> {
    return this.#conditions.takeChanged();
  }

  /** One piece of work; what it cost, or undefined when nothing is left to do. */
  #step(updates: ResourceUpdate[]): number | undefined {
    return (
      this.#readChange(updates) ??
      this.#buildServices(updates) ??
      this.#advanceSweep() ??
      this.#buildChanged(updates) ??
      this.#buildStale(updates) ??
      this.#dropPolicy(updates)
    );
  }

  #readChange(updates: ResourceUpdate[]): number | undefined {
    const batch = this.#inbox[0];
    const change = batch?.pop();
    if (batch?.length === 0) this.#inbox.shift();
    if (change === undefined) return this.#readPolicy(updates);
    this.#reader.read(change);
    return COST_OF_OBJECT;
  }

  /** A policy is announced before the workloads that name it, and goes, or gets narrower, after them. */
  #readPolicy(updates: ResourceUpdate[]): number | undefined {
    const key = this.#backlog.policies.take();
    if (key === undefined) return undefined;
    const [kind, namespace = '', name = ''] = key.split('/');
    const { updates: changed, late, affected } = this.#refreshPolicy(kind, namespace, name);
    if (late !== undefined) this.#backlog.vanishing.add(late);
    const scope = kind === 'Gateway' ? EVERYWHERE : this.#reader.scopeOf(namespace);
    if (affected.kind === 'all') this.#backlog.sweep(scope);
    else if (affected.kind === 'selected') {
      for (const selector of affected.selectors) this.#backlog.sweepSelected(scope, selector);
    }
    for (const update of changed) {
      if (update.resource === undefined) this.#backlog.vanishing.add(update.name);
      else {
        this.#backlog.vanishing.delete(update.name);
        updates.push(update);
      }
    }
    return COST_OF_POLICY;
  }

  #refreshPolicy(kind: string | undefined, namespace: string, name: string): PolicyChange {
    switch (kind) {
      case 'PeerAuthentication':
        return this.#policies.refreshPeer(namespace, name);
      case 'Gateway':
        return this.#waypoints.refresh(namespace, name);
      default:
        return this.#policies.refreshAuthorization(namespace, name);
    }
  }

  #buildServices(updates: ResourceUpdate[]): number | undefined {
    const name = this.#backlog.hosts.take();
    if (name !== undefined) {
      const slash = name.indexOf('/');
      updates.push(this.#services.buildHost(name.slice(0, slash), name.slice(slash + 1)));
      return 1;
    }
    const network = this.#backlog.networks.take();
    if (network !== undefined) {
      updates.push(...this.#workloads.buildNetwork(network));
      return 1;
    }
    const key = this.#backlog.conditions.take();
    if (key === undefined) return undefined;
    const [kind, namespace = '', object = ''] = key.split('/');
    if (kind === 'Service') this.#services.refreshServiceConditions(namespace, object);
    else this.#services.refreshEntryConditions(namespace, object);
    return 0.2;
  }

  #buildChanged(updates: ResourceUpdate[]): number | undefined {
    const key = this.#backlog.workloads.take();
    return key === undefined ? undefined : this.#build(key, updates);
  }

  #advanceSweep(): number | undefined {
    if (this.#sweep === undefined) {
      const next = this.#backlog.nextSweep();
      if (next !== undefined) this.#sweep = sweepObjects(next, this.#view.store, this.#reader);
      else {
        const node = this.#backlog.nodes.take();
        if (node === undefined) return undefined;
        let cost = COST_OF_LOOK;
        for (const pod of this.#view.store.podsOnNode(node)) {
          this.#backlog.addStale(pod);
          cost += COST_OF_LOOK;
        }
        return cost;
      }
    }
    const { done, value } = this.#sweep.next();
    if (done === true) this.#sweep = undefined;
    return done === true ? 0 : value;
  }

  #buildStale(updates: ResourceUpdate[]): number | undefined {
    const pod = this.#backlog.stalePods.take();
    if (pod !== undefined) {
      updates.push(this.#workloads.buildPod(pod.meta.namespace, pod.meta.name));
      return 1;
    }
    const key = this.#backlog.staleWorkloads.take();
    return key === undefined ? undefined : this.#build(key, updates);
  }

  #dropPolicy(updates: ResourceUpdate[]): number | undefined {
    const name = this.#backlog.vanishing.take();
    if (name === undefined) return undefined;
    updates.push(this.#policies.readLate(name));
    return 0.2;
  }

  #build(key: ObjectKey, updates: ResourceUpdate[]): number {
    const [kind, namespace = '', name = ''] = key.split('/');
    const before = updates.length;
    switch (kind) {
      case 'Pod':
        updates.push(this.#workloads.buildPod(namespace, name));
        break;
      case 'WorkloadEntry':
        updates.push(this.#workloads.buildEntry(namespace, name));
        break;
      case 'EndpointSlice':
        updates.push(...this.#workloads.buildSlice(namespace, name));
        break;
      default:
        updates.push(...this.#workloads.buildServiceEntry(namespace, name));
    }
    return 1 + updates.length - before;
  }
}
