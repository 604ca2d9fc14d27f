/**
 * What has to be built anew, in the order in which it is worked off. Everything is noted by name, never with its content:
 * whatever is built is built from the objects as they are at that moment, so that the order of changes cannot matter.
 *
 *   1. policies that changed            announced before the workloads that name them
 *   2. hosts, then what is said of them services before their endpoints
 *   3. sweeps                           find the stale workloads of a namespace, of a node, of the mesh
 *   4. workloads that changed           in front of those that are stale because of something else
 *   5. stale workloads
 *   6. policies that are gone           after the workloads that named them; and those that were for all and are for some
 */
import type { MeshObject, ObjectKey } from '../objects/object.ts';
import type { Pod } from '../objects/pod.ts';
import { PendingSet } from './pending-set.ts';
import { SelectorIndex } from './selector-index.ts';

/** The whole mesh, where a namespace is meant; no namespace has this name. */
export const EVERYWHERE = '*';

type Selector = ReadonlyMap<string, string>;

export type ObjectTest = (object: MeshObject) => boolean;

export type Sweep =
  /** Workloads of a namespace, or of the mesh (`EVERYWHERE`): all of them, or those that a selector selects. */
  | {
      readonly kind: 'workloads';
      readonly scope: string;
      readonly selectors: SelectorIndex<{ readonly selector: Selector }> | undefined;
    }
  /** Services, entries, slices and workloads of the mesh that any of the tests is true for. */
  | { readonly kind: 'objects'; readonly tests: readonly ObjectTest[] };

export class Backlog {
  /** Keys of AuthorizationPolicies and PeerAuthentications, and of Gateways for the policies of waypoints. */
  readonly policies = new PendingSet<ObjectKey>();
  /** `<namespace>/<host>`. */
  readonly hosts = new PendingSet<string>();
  /** Keys of Services and ServiceEntries of which something else may be said now. */
  readonly conditions = new PendingSet<ObjectKey>();
  /** Keys of Pods, WorkloadEntries, EndpointSlices and ServiceEntries. */
  readonly workloads = new PendingSet<ObjectKey>();
  /** Networks whose gateway may be another one. */
  readonly networks = new PendingSet<string>();
  /** Nodes whose pods are elsewhere now. */
  readonly nodes = new PendingSet<string>();
  /** Pods that a sweep found; a removed one is not built. */
  readonly stalePods = new PendingSet<Pod>();
  readonly staleWorkloads = new PendingSet<ObjectKey>();
  /** Authorization resources that may be gone, or narrower. */
  readonly vanishing = new PendingSet<string>();
  readonly #wholeScopes = new Set<string>();
  readonly #selected = new Map<string, SelectorIndex<{ readonly selector: Selector }>>();
  readonly #tests = new Map<string, ObjectTest>();
  #selectors = 0;

  /** A pod that a sweep or an index found; one that changed itself is built before anyway. */
  addStale(pod: Pod): void {
    if (!this.workloads.has(`Pod/${pod.meta.namespace}/${pod.meta.name}`)) this.stalePods.add(pod);
  }

  /** All workloads of a namespace, or of the mesh. */
  sweep(scope: string): void {
    this.#wholeScopes.add(scope);
    if (scope === EVERYWHERE) this.#selected.clear();
    else this.#selected.delete(scope);
  }

  /** Workloads of a namespace, or of the mesh, that a selector selects. */
  sweepSelected(scope: string, selector: Selector): void {
    if (this.#wholeScopes.has(scope) || this.#wholeScopes.has(EVERYWHERE)) return;
    const selectors = this.#selected.get(scope) ?? new SelectorIndex<{ readonly selector: Selector }>();
    selectors.set(scope, String(this.#selectors++), { selector });
    this.#selected.set(scope, selectors);
  }

  /** Services, entries, slices and workloads that `test` is true for; a later call with the same name replaces an earlier one. */
  sweepWhere(name: string, test: ObjectTest): void {
    this.#tests.set(name, test);
  }

  /** The next sweep, widest first: it makes narrower ones needless. */
  nextSweep(): Sweep | undefined {
    if (this.#tests.size > 0) {
      const tests = [...this.#tests.values()];
      this.#tests.clear();
      return { kind: 'objects', tests };
    }
    if (this.#wholeScopes.delete(EVERYWHERE)) {
      this.#wholeScopes.clear();
      return { kind: 'workloads', scope: EVERYWHERE, selectors: undefined };
    }
    for (const scope of this.#wholeScopes) {
      this.#wholeScopes.delete(scope);
      return { kind: 'workloads', scope, selectors: undefined };
    }
    for (const [scope, selectors] of this.#selected) {
      this.#selected.delete(scope);
      return { kind: 'workloads', scope, selectors };
    }
    return undefined;
  }
}
