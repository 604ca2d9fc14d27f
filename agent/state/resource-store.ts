/**
 * The accepted resources as they came, by type and name: what a new worker is brought up to date with, and the versions
 * a reconnecting xDS client resumes from. A refused resource does not get in; the version that is in force stays.
 *
 * Contents are kept as one-byte strings: 100,000 small typed arrays would cost more than what is in them.
 */
import type { EncodedResource, ResourceError, ResourceUpdate } from './resource.ts';

/** Names in one update that is handed on: a worker takes it over in a few milliseconds, between turns of its loop. */
export const UPDATE_BATCH = 500;

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

  /** Everything, in batches. The store must not change while it is walked. */
  *snapshot(): Generator<ResourceUpdate> {
    for (const [typeUrl, resources] of this.#types) {
      let updated: EncodedResource[] = [];
      for (const [name, { version, content }] of resources) {
        updated.push({ name, version, bytes: Buffer.from(content, 'latin1') });
        if (updated.length < UPDATE_BATCH) continue;
        yield { typeUrl, updated, removed: [] };
        updated = [];
      }
      if (updated.length > 0) yield { typeUrl, updated, removed: [] };
    }
  }
}

/** The same change in batches, updates before removals. */
export function* inBatches(update: ResourceUpdate): Generator<ResourceUpdate> {
  const { typeUrl, updated, removed } = update;
  if (updated.length + removed.length <= UPDATE_BATCH) {
    yield update;
    return;
  }
  for (let at = 0; at < updated.length; at += UPDATE_BATCH)
    yield { typeUrl, updated: updated.slice(at, at + UPDATE_BATCH), removed: [] };
  for (let at = 0; at < removed.length; at += UPDATE_BATCH)
    yield { typeUrl, updated: [], removed: removed.slice(at, at + UPDATE_BATCH) };
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
