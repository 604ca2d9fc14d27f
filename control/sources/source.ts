/**
 * Where objects come from. A source (files, Kubernetes) reports changes of whole, decoded objects; it never reports an
 * object it could not decode, and the last good version of that object stays with the receiver.
 */
import type { MeshObject, ObjectKey } from '../objects/object.ts';

export interface ChangeSet {
  readonly upserted: readonly MeshObject[];
  readonly removed: readonly ObjectKey[];
}

/** Something in the source that a person should look at. */
export interface SourceProblem {
  readonly severity: 'error' | 'info';
  /** Where it is: a file path relative to the folder, or an object. */
  readonly where: string;
  /** 1-based; undefined where there is none. */
  readonly line: number | undefined;
  readonly object: ObjectKey | undefined;
  readonly reason: string;
  /** What takes the place of `object` while no good version of it is known (stand-ins.ts). */
  readonly standIn?: MeshObject | undefined;
}

export interface SourceSink {
  /** Objects changed. Called in order; never with an empty set. */
  changed(change: ChangeSet): void;
  /** Everything that existed at the start has been reported through `changed`. Called once. */
  synced(): void;
  /** The problems that exist now (the whole list, whenever it changes). */
  problems(current: readonly SourceProblem[]): void;
}

/** One kind of a source that watches kind by kind. */
export interface KindState {
  readonly kind: string;
  /** `absent`: its definition is not installed. `degraded`: what is known may be old. */
  readonly state: 'listing' | 'synced' | 'degraded' | 'absent';
  readonly objects: number;
}

export interface Source {
  /** Resolves when watching began; rejects when the source cannot be used at all. */
  start(sink: SourceSink): Promise<void>;
  /** Present where kinds are watched by themselves. */
  kinds?(): readonly KindState[];
  /** What is known to keep it from being synced: a file or object and why. Empty once it is synced. */
  waitsFor(): readonly string[];
  close(): Promise<void>;
}
