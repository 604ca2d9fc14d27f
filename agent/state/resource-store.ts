/**
 * The accepted resources as they came, by type and name: what a new worker is brought up to date with, and the versions
 * a reconnecting xDS client resumes from. A refused resource does not get in; the version that is in force stays.
 *
 * Contents are kept as one-byte strings: 100,000 small typed arrays would cost more than what is in them.
 */
import type { EncodedResource, ResourceError, ResourceUpdate } from './resource.ts';

/** Resources in one update of a snapshot; bounds the size of one message to a worker. */
export const SNAPSHOT_BATCH = 2_000;

interface Stored {
  readonly version: string;
  readonly content: string;
}

export class ResourceStore {
  readonly #types = new Map<string, Map<string, Stored>>();

  /** Keeps what `update` changed except for the resources that were refused. */
  record(update: ResourceUpdate, errors: readonly ResourceError[]): void {
    const refused = new Set(errors.map(({ name }) => name));
    let resources = this.#types.get(update.typeUrl);
    if (resources === undefined) {
      resources = new Map();
      this.#types.set(update.typeUrl, resources);
    }
    for (const { name, version, bytes } of update.updated)
      if (!refused.has(name)) resources.set(name, { version, content: toText(bytes) });
    for (const name of update.removed) resources.delete(name);
  }

  count(typeUrl: string): number {
    return this.#types.get(typeUrl)?.size ?? 0;
  }

  has(typeUrl: string, name: string): boolean {
    return this.#types.get(typeUrl)?.has(name) ?? false;
  }

  /** Name to version of everything held of the type. */
  versions(typeUrl: string): Record<string, string> {
    const versions: Record<string, string> = {};
    for (const [name, { version }] of this.#types.get(typeUrl) ?? []) versions[name] = version;
    return versions;
  }

  /** Everything, as updates of at most `SNAPSHOT_BATCH` resources. The store must not change while it is walked. */
  *snapshot(): Generator<ResourceUpdate> {
    for (const [typeUrl, resources] of this.#types) {
      let updated: EncodedResource[] = [];
      for (const [name, { version, content }] of resources) {
        updated.push({ name, version, bytes: Buffer.from(content, 'latin1') });
        if (updated.length < SNAPSHOT_BATCH) continue;
        yield { typeUrl, updated, removed: [] };
        updated = [];
      }
      if (updated.length > 0) yield { typeUrl, updated, removed: [] };
    }
  }
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
