/**
 * What only the elected replica does. A task starts when the replica was elected and everything of the source is known;
 * it stops, with no write under way, before another one may begin. Every task may be repeated: it compares with what
 * stands in the cluster and writes only the difference.
 */
import type { ObjectChange } from '../model/object-store.ts';
import type { ObjectKey } from '../objects/object.ts';

export interface LeaderTask {
  /** As metrics and logs name it; of a closed set. */
  readonly name: string;
  start(): void;
  /** Objects of the mesh changed. Called between `start` and `stop` only. */
  changed?(changes: readonly ObjectChange[]): void;
  /**
   * These objects have other conditions than before, or none any more; what `changed` told before has been judged, also
   * where nothing is different. Called between `start` and `stop` only.
   */
  conditionsChanged?(objects: ReadonlySet<ObjectKey>): void;
  /** Resolves when nothing is under way any more. Never rejects. */
  stop(): Promise<void>;
  /** Keys of work that wait, and those that keep failing; zero and empty while stopped. */
  readonly length: number;
  failing(): readonly FailingKey[];
}

export interface FailingKey {
  readonly key: string;
  readonly attempts: number;
  readonly reason: string;
}
