/**
 * Writes what became of objects into their status, by server-side apply, with one field manager per concern (see
 * `conditions.ts`). Only differences are written, only for the generation that was judged, and only to the object
 * that was judged: an object of the same name that was made since is left for its own turn.
 */

import { isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { apiVersionOf, RESOURCES, type Resource } from '../../kube/resource.ts';
import type { ObjectCondition } from '../discovery/condition.ts';
import type { ObjectChange, ObjectStore } from '../model/object-store.ts';
import { type MeshObject, type ObjectKey, objectKey } from '../objects/object.ts';
import { conditionManagers, conditionsToApply, KINDS_WITH_CONDITIONS, type KindWithConditions } from './conditions.ts';
import { QueuedTask } from './queued-task.ts';
import { appliedTypes, standingConditions } from './standing-conditions.ts';

/** How often, and how many times, an object is looked at again that the source has told an older generation of. */
const LAG_MS = 250;
const MAX_LAGS = 12;
/** Writes under way at once. */
const CONCURRENCY = 4;
/** Objects per page when a new leader looks for conditions that its predecessors left. */
const PAGE = 250;
/** Key of that search; no object has it. */
const SEARCH = 'search ';

type Judged = Extract<MeshObject, { kind: KindWithConditions }>;

export interface StatusFacts {
  readonly store: ObjectStore;
  /** What shall stand; a live view. */
  conditions(): ReadonlyMap<ObjectKey, readonly ObjectCondition[]>;
}

export class StatusWriter extends QueuedTask {
  readonly name = 'status';
  protected override readonly concurrency = CONCURRENCY;
  readonly #client: KubeClient;
  readonly #facts: StatusFacts;
  readonly #onWritten: () => void;
  /** What was last found to stand, by key: object, generation and conditions. Bounded by the objects that have any. */
  readonly #settled = new Map<ObjectKey, string>();
  /** Changed objects whose new generation has not been judged: what is said of them is about the one before. */
  readonly #unjudged = new Set<ObjectKey>();
  /** Looks at objects that are ahead of the source, by key. */
  readonly #lags = new Map<ObjectKey, number>();

  /** `onWritten` is told of each write. */
  constructor(client: KubeClient, facts: StatusFacts, onWritten: () => void) {
    super();
    this.#client = client;
    this.#facts = facts;
    this.#onWritten = onWritten;
  }

  protected begin(): void {
    this.#settled.clear();
    this.#lags.clear();
    this.#unjudged.clear();
    for (const key of this.#facts.conditions().keys()) this.add(key);
    for (const kind of KINDS_WITH_CONDITIONS) this.add(`${SEARCH}${kind}`);
  }

  changed(changes: readonly ObjectChange[]): void {
    for (const { key, after } of changes) {
      if (after === undefined) this.#settled.delete(key);
      else if (this.#facts.conditions().has(key)) this.#unjudged.add(key);
    }
  }

  /** Everything that changed before has been judged by now. */
  conditionsChanged(objects: ReadonlySet<ObjectKey>): void {
    for (const key of this.#unjudged) if (this.#settled.get(key) !== this.#fingerprint(key)) this.add(key);
    this.#unjudged.clear();
    for (const key of objects) this.add(key);
  }

  protected async run(key: string, signal: AbortSignal): Promise<void> {
    if (key.startsWith(SEARCH)) {
      await this.#search(key.slice(SEARCH.length), signal);
      return;
    }
    const object = this.#find(key);
    if (object === undefined) return;
    const fingerprint = this.#fingerprint(key);
    if (this.#settled.get(key) === fingerprint) return;
    const { namespace, name } = object.meta;
    const found = await this.#client.find(resourceOf(object.kind), namespace, name, { signal });
    if (found === undefined || signal.aborted) return;
    // A successor of the same name: the source is about to tell, and it gets its own turn.
    if (object.meta.uid !== found.metadata.uid) return;
    if (this.#mayCatchUp(key, object, found)) {
      this.addAfter(key, LAG_MS);
      return;
    }
    await this.#apply(object, found, signal);
    this.#settled.set(key, fingerprint);
  }

  async #apply(object: Judged, found: KubeObject, signal: AbortSignal): Promise<void> {
    const { namespace, name } = object.meta;
    const resource = resourceOf(object.kind);
    const desired = this.#facts.conditions().get(objectKey(object)) ?? [];
    for (const manager of conditionManagers(object.kind)) {
      const conditions = conditionsToApply(manager, {
        desired,
        current: standingConditions(found),
        written: appliedTypes(found, manager.fieldManager),
        generation: object.meta.generation === 0 ? undefined : object.meta.generation,
        now: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
      });
      if (conditions === undefined) continue;
      const body = {
        apiVersion: apiVersionOf(resource),
        kind: resource.kind,
        // The uid keeps the conditions from landing on a successor of the same name.
        metadata: { name, namespace, uid: found.metadata.uid },
        status: { conditions },
      };
      const options = { fieldManager: manager.fieldManager, force: true, subresource: 'status', signal };
      try {
        await this.#client.apply(resource, namespace, name, body, options);
      } catch (thrown) {
        // Deleted meanwhile.
        if (isNotFound(thrown)) return;
        throw thrown;
      }
      this.#onWritten();
    }
  }

  /**
   * True while what was judged is older than what stands and the source may still tell. An object that became unreadable
   * never catches up: its conditions then speak of the generation that is in force.
   */
  #mayCatchUp(key: ObjectKey, object: Judged, found: KubeObject): boolean {
    const { generation } = found.metadata;
    const lags = this.#lags.get(key) ?? 0;
    const behind = typeof generation === 'number' && object.meta.generation < generation && lags < MAX_LAGS;
    if (behind) this.#lags.set(key, lags + 1);
    else this.#lags.delete(key);
    return behind;
  }

  /** Conditions of ours on objects that shall have none any more, left by an earlier leader. */
  async #search(kind: string, signal: AbortSignal): Promise<void> {
    const found = KINDS_WITH_CONDITIONS.find((candidate) => candidate === kind);
    if (found === undefined) return;
    const resource = resourceOf(found);
    let continueToken = '';
    do {
      const page = await this.#client
        .listPage(resource, {}, { limit: PAGE, continueToken, signal })
        .catch((thrown: unknown) => {
          // The definition of this kind is not installed.
          if (isNotFound(thrown)) return undefined;
          throw thrown;
        });
      if (page === undefined) return;
      for (const item of page.items) {
        const object = kubeObject(item);
        if (object === undefined) continue;
        const ours = conditionManagers(found).some(({ fieldManager }) => appliedTypes(object, fieldManager).size > 0);
        if (ours) this.add(`${found}/${object.metadata.namespace}/${object.metadata.name}`);
      }
      continueToken = page.continueToken;
    } while (continueToken !== '' && !signal.aborted);
  }

  #find(key: ObjectKey): Judged | undefined {
    const [kind = '', namespace = '', name = ''] = key.split('/');
    const known = KINDS_WITH_CONDITIONS.find((candidate) => candidate === kind);
    return known === undefined ? undefined : this.#facts.store.find(known, namespace, name);
  }

  #fingerprint(key: ObjectKey): string {
    const object = this.#find(key);
    return JSON.stringify([object?.meta.uid, object?.meta.generation, this.#facts.conditions().get(key) ?? []]);
  }
}

function resourceOf(kind: KindWithConditions): Resource {
  return RESOURCES[kind];
}
