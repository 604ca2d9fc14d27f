/**
 * The one way resources enter an agent, from xDS or from a file: into the main thread's `MeshState`, into the store,
 * and on to whoever subscribed (the workers), in one order for all.
 *
 * Where a control plane feeds it, subscribers are told of no workload before the first answer of every type is in, whole: a
 * pod that is known while the policies for its namespace are not would let everybody in for that moment, and one whose
 * peers are not known yet would call them in plain text.
 */
import type { MeshState } from './mesh-state.ts';
import { denialInPlaceOf } from './refused-policy.ts';
import {
  ADDRESS_TYPE,
  type ApplyResult,
  AUTHORIZATION_TYPE,
  type EncodedResource,
  type ResourceError,
  type ResourceUpdate,
} from './resource.ts';
import { inBatches, ResourceStore } from './resource-store.ts';

export class ResourceFeed {
  readonly state: MeshState;
  readonly store = new ResourceStore();
  readonly #subscribers = new Set<(update: ResourceUpdate) => void>();
  #holdsAddresses = false;

  constructor(state: MeshState) {
    this.state = state;
  }

  /** Applies, keeps and publishes what is acceptable; the result names what is not. */
  apply(update: ResourceUpdate): ApplyResult {
    const result = this.#take(update);
    const denials = this.#denialsFor(update, result.errors);
    if (denials.length > 0) this.#take({ typeUrl: update.typeUrl, updated: denials, removed: [] });
    return result;
  }

  #take(update: ResourceUpdate): ApplyResult {
    const result = this.state.apply(update);
    this.store.record(update, result.errors);
    if (result.changed) {
      const refused = new Set(result.errors.map(({ name }) => name));
      const accepted =
        refused.size === 0 ? update : { ...update, updated: update.updated.filter(({ name }) => !refused.has(name)) };
      if (!this.#isHeld(update)) this.#publish(accepted);
    }
    return result;
  }

  /** Subscribers hear of no address until `releaseAddresses`. */
  holdAddresses(): void {
    this.#holdsAddresses = true;
  }

  /** The first answers of all types were applied, all their parts; later calls do nothing. */
  releaseAddresses(): void {
    if (!this.#holdsAddresses) return;
    this.#holdsAddresses = false;
    const held = [...this.store.snapshot()].filter(({ typeUrl }) => typeUrl === ADDRESS_TYPE);
    held.forEach((update, index) => {
      this.#publish(index === held.length - 1 ? update : { ...update, partial: true });
    });
  }

  /** Everything that subscribers may know now, in batches. The feed must not change while it is walked. */
  *snapshot(): Generator<ResourceUpdate> {
    for (const update of this.store.snapshot()) if (!this.#isHeld(update)) yield update;
  }

  /**
   * Calls `publish` with everything known now, then with every change, in batches of at most `UPDATE_BATCH` names, until
   * the returned function is called.
   */
  subscribe(publish: (update: ResourceUpdate) => void): () => void {
    for (const update of this.snapshot()) publish(update);
    this.#subscribers.add(publish);
    return () => this.#subscribers.delete(publish);
  }

  /** For policies that were refused and of which no earlier version is in force. */
  #denialsFor({ typeUrl, updated }: ResourceUpdate, errors: readonly ResourceError[]): EncodedResource[] {
    if (typeUrl !== AUTHORIZATION_TYPE || errors.length === 0) return [];
    const refused = new Set(errors.map(({ name }) => name));
    return updated.flatMap((resource) =>
      refused.has(resource.name) && !this.store.has(typeUrl, resource.name) ? denialInPlaceOf(resource) : [],
    );
  }

  #isHeld({ typeUrl }: ResourceUpdate): boolean {
    return this.#holdsAddresses && typeUrl === ADDRESS_TYPE;
  }

  #publish(update: ResourceUpdate): void {
    for (const batch of inBatches(update)) for (const publish of this.#subscribers) publish(batch);
  }
}
