/**
 * The resources in force, encoded, so that a worker which starts later can be told all of them. One entry per name; the
 * bytes are those of the last update.
 */
import type { EncodedResource, ResourceUpdate } from '../state/resource.ts';

/** Resources per message of a replay, so that no single message is huge. */
const REPLAY_BATCH = 2000;

export class ResourceLog {
  readonly #types = new Map<string, Map<string, EncodedResource>>();

  record({ typeUrl, updated, removed }: ResourceUpdate): void {
    let resources = this.#types.get(typeUrl);
    if (resources === undefined) {
      resources = new Map();
      this.#types.set(typeUrl, resources);
    }
    for (const resource of updated) resources.set(resource.name, resource);
    for (const name of removed) resources.delete(name);
  }

  *replay(): Generator<ResourceUpdate> {
    for (const [typeUrl, resources] of this.#types) {
      const all = [...resources.values()];
      for (let start = 0; start < all.length; start += REPLAY_BATCH) {
        yield { typeUrl, updated: all.slice(start, start + REPLAY_BATCH), removed: [] };
      }
    }
  }
}
