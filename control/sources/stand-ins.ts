/**
 * Between a source and what it feeds: while a policy cannot be read and no good version of it is known, the stand-in
 * that its problem carries is announced in its place (objects/policy-stand-in.ts). A good version replaces it; it goes
 * when the problem goes. Everything else passes through unchanged.
 */
import type { MeshObject, ObjectKey } from '../objects/object.ts';
import { objectKey } from '../objects/object.ts';
import type { ChangeSet, SourceProblem, SourceSink } from './source.ts';

/** A sink for the source that feeds `sink`. */
export function withStandIns(sink: SourceSink): SourceSink {
  const good = new Set<ObjectKey>();
  let standing = new Map<ObjectKey, MeshObject>();
  return {
    changed(change: ChangeSet): void {
      for (const key of change.removed) good.delete(key);
      for (const object of change.upserted) {
        if (object.kind !== 'AuthorizationPolicy' && object.kind !== 'PeerAuthentication') continue;
        const key = objectKey(object);
        good.add(key);
        standing.delete(key);
      }
      sink.changed(change);
    },
    synced: () => sink.synced(),
    problems(current: readonly SourceProblem[]): void {
      const wanted = new Map<ObjectKey, MeshObject>();
      for (const { object, standIn } of current) {
        if (object !== undefined && standIn !== undefined && !good.has(object) && !wanted.has(object))
          wanted.set(object, standIn);
      }
      const upserted = [...wanted]
        .filter(([key, object]) => !same(standing.get(key), object))
        .map(([, object]) => object);
      const removed = [...standing.keys()].filter((key) => !wanted.has(key));
      standing = wanted;
      if (upserted.length + removed.length > 0) sink.changed({ upserted, removed });
      sink.problems(current);
    },
  };
}

/** What becomes of an object that cannot be read, for the text of its problem. */
export function fateOf(isKept: boolean, standIn: MeshObject | undefined): string {
  if (isKept) return 'its last good version stays in use';
  return standIn === undefined ? 'it is not used' : 'until it is corrected, everything it is for is denied';
}

function same(a: MeshObject | undefined, b: MeshObject): boolean {
  return a !== undefined && text(a) === text(b);
}

/** Decoded objects are plain values and maps. */
function text(object: MeshObject): string {
  return JSON.stringify(object, (_key, value: unknown) => (value instanceof Map ? [...value] : value));
}
