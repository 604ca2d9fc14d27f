/**
 * The one way resources enter an agent, from xDS or from a file: into the main thread's `MeshState`, into the store,
 * and on to whoever subscribed (the workers), in one order for all.
 */
import type { MeshState } from './mesh-state.ts';
import type { ApplyResult, ResourceUpdate } from './resource.ts';
import { inBatches, ResourceStore } from './resource-store.ts';

export class ResourceFeed {
  readonly state: MeshState;
  readonly store = new ResourceStore();
  readonly #subscribers = new Set<(update: ResourceUpdate) => void>();

  constructor(state: MeshState) {
    this.state = state;
  }

  /** Applies, keeps and publishes what is acceptable; the result names what is not. */
  apply(update: ResourceUpdate): ApplyResult {
    const result = this.state.apply(update);
    this.store.record(update, result.errors);
    if (result.changed) {
      const refused = new Set(result.errors.map(({ name }) => name));
      const accepted =
        refused.size === 0 ? update : { ...update, updated: update.updated.filter(({ name }) => !refused.has(name)) };
      for (const batch of inBatches(accepted)) for (const publish of this.#subscribers) publish(batch);
    }
    return result;
  }

  /**
   * Calls `publish` with everything known now, then with every change, in batches of at most `UPDATE_BATCH` names, until
   * the returned function is called.
   */
  subscribe(publish: (update: ResourceUpdate) => void): () => void {
    for (const update of this.store.snapshot()) publish(update);
    this.#subscribers.add(publish);
    return () => this.#subscribers.delete(publish);
  }
}
