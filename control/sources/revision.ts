/**
 * Between a source and what it feeds: configuration that names another control plane (label `istio.io/rev`, Istio's) is
 * not ours and is as good as absent. Without the label it is everybody's. Pods, services and the like have no revision.
 */
import { type MeshObject, type ObjectKey, type ObjectKind, objectKey } from '../objects/object.ts';
import type { ChangeSet, SourceSink } from './source.ts';

export const REVISION_LABEL = 'istio.io/rev';
/** The revision of a control plane that was given none. */
export const DEFAULT_REVISION = 'default';

const REVISED_KINDS: ReadonlySet<ObjectKind> = new Set([
  'AuthorizationPolicy',
  'PeerAuthentication',
  'ServiceEntry',
  'WorkloadEntry',
  'Gateway',
]);

/** A sink for the source that feeds `sink` with what is of `revision` (empty: the default one). */
export function ofRevision(revision: string, sink: SourceSink): SourceSink {
  const own = revision === '' ? DEFAULT_REVISION : revision;
  const hidden = new Set<ObjectKey>();
  return {
    changed(change: ChangeSet): void {
      const removed = change.removed.filter((key) => !hidden.delete(key));
      const upserted: MeshObject[] = [];
      for (const object of change.upserted) {
        const key = objectKey(object);
        if (isOf(own, object)) {
          hidden.delete(key);
          upserted.push(object);
        } else if (!hidden.has(key)) {
          hidden.add(key);
          // It may have been ours until now.
          removed.push(key);
        }
      }
      if (upserted.length + removed.length > 0) sink.changed({ upserted, removed });
    },
    synced: () => sink.synced(),
    problems: (current) => sink.problems(current),
  };
}

function isOf(own: string, { kind, meta }: MeshObject): boolean {
  const named = REVISED_KINDS.has(kind) ? meta.labels.get(REVISION_LABEL) : undefined;
  return named === undefined || named === own;
}
