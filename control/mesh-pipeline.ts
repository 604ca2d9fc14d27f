/**
 * From the source to the clients: changed objects go to the store at once, and a moment later, together with others,
 * through the builder to the discovery service. The work of one turn of the event loop is bounded.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { logger } from '../core/log.ts';
import { isSound } from './discovery/condition.ts';
import type { MeshBuilder } from './discovery/mesh-builder.ts';
import type { ControlMetrics } from './metrics.ts';
import type { ObjectChange, ObjectStore } from './model/object-store.ts';
import type { ObjectKey } from './objects/object.ts';
import type { Part } from './part.ts';
import { logProblems } from './sources/files.ts';
import { ofRevision } from './sources/revision.ts';
import type { ChangeSet, Source, SourceProblem, SourceSink } from './sources/source.ts';
import { withStandIns } from './sources/stand-ins.ts';
import type { DiscoveryService } from './xds/discovery-service.ts';

const log = logger('control');

/** Reasons that readiness names. */
const MAX_REASONS = 5;
/** Changes within this time of each other are published together, but none waits longer than the second number. */
const DEBOUNCE_MS = 20;
const DEBOUNCE_MAX_MS = 200;
/** Work of one turn of the event loop, after which calls and streams have theirs. */
const TURN_MS = 10;

export interface PipelineParts {
  readonly source: Source;
  readonly store: ObjectStore;
  readonly builder: MeshBuilder;
  readonly discovery: DiscoveryService;
  readonly metrics: ControlMetrics;
  /** Name of this control plane; empty: the default one. */
  readonly revision: string;
}

/** Who else wants to know. */
export interface MeshObserver {
  /** Objects changed; the store has them already. */
  changed(changes: readonly ObjectChange[]): void;
  /** Clients have been offered what changed. These objects have other conditions than before, or none any more. */
  published(conditionsOf: ReadonlySet<ObjectKey>): void;
}

export class MeshPipeline implements Part, SourceSink {
  readonly name = 'source';
  readonly #parts: PipelineParts;
  readonly #observer: MeshObserver;
  #publishTimer: NodeJS.Timeout | undefined;
  /** Changes that clients have not been told of, and since when the oldest waits. */
  #unpublished: ObjectChange[] = [];
  #waitingSinceMs = 0;
  #synced = false;
  /** The publication under way; it takes what comes meanwhile. */
  #publishing: Promise<void> | undefined;
  #stopped = false;
  readonly #whenSynced = Promise.withResolvers<void>();
  #problems: readonly SourceProblem[] = [];
  #loggedProblems: ReadonlySet<string> = new Set();
  readonly #loggedConditions = new Map<ObjectKey, string>();

  constructor(parts: PipelineParts, observer: MeshObserver) {
    this.#parts = parts;
    this.#observer = observer;
  }

  /** Resolves when everything that existed at the start is ready to be served. */
  async start(): Promise<void> {
    await this.#parts.source.start(withStandIns(ofRevision(this.#parts.revision, this)));
    // Nobody is served before everything is known: an empty answer would take the mesh away from its agents.
    await this.#whenSynced.promise;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#parts.source.close();
    clearTimeout(this.#publishTimer);
    await this.#publishing;
  }

  pending(): readonly string[] {
    if (this.#synced) return [];
    const reasons = this.#parts.source.waitsFor().slice(0, MAX_REASONS);
    return [reasons.length === 0 ? 'source' : `source (${reasons.join('; ')})`];
  }

  /** Problems of the source that exist now. */
  currentProblems(): readonly SourceProblem[] {
    return this.#problems;
  }

  /** Everything that existed at the start is served. */
  get isSynced(): boolean {
    return this.#synced;
  }

  /** Changed objects that clients have not been told of. */
  get waiting(): number {
    return this.#unpublished.length;
  }

  changed(change: ChangeSet): void {
    // The CA looks pods up in the store, so that it knows them at once; clients are told a moment later.
    const changes = this.#parts.store.apply(change);
    if (changes.length === 0) return;
    this.#observer.changed(changes);
    const now = performance.now();
    if (this.#unpublished.length === 0) this.#waitingSinceMs = now;
    this.#unpublished.push(...changes);
    if (this.#publishing !== undefined) return;
    clearTimeout(this.#publishTimer);
    const delayMs = Math.max(0, Math.min(DEBOUNCE_MS, this.#waitingSinceMs + DEBOUNCE_MAX_MS - now));
    this.#publishTimer = setTimeout(() => this.#publish(), this.#synced ? delayMs : 0);
  }

  synced(): void {
    this.#publish();
    void Promise.resolve(this.#publishing).then(() => {
      this.#synced = true;
      this.#whenSynced.resolve();
      log.info({ objects: this.#parts.store.size }, 'source read');
    });
  }

  problems(current: readonly SourceProblem[]): void {
    this.#problems = current;
    this.#loggedProblems = logProblems(current, this.#loggedProblems);
    this.#parts.metrics.sourceProblems.set(current.filter((problem) => problem.severity === 'error').length);
  }

  #publish(): void {
    clearTimeout(this.#publishTimer);
    if (this.#publishing !== undefined || this.#unpublished.length === 0) return;
    this.#publishing = this.#publishAll().finally(() => {
      this.#publishing = undefined;
    });
  }

  /** Builds and publishes until nothing waits any more, a bounded piece of work per turn. */
  async #publishAll(): Promise<void> {
    const { discovery, builder, metrics } = this.#parts;
    let turnBeganMs = performance.now();
    while (this.#unpublished.length > 0) {
      const sinceMs = this.#waitingSinceMs;
      const slices = builder.updateInSlices(this.#takeUnpublished());
      for (let slice = slices.next(); slice.done !== true; ) {
        // What comes meanwhile does not wait for all of what is under way.
        builder.accept(this.#takeUnpublished());
        const next = slices.next();
        // Whether more follows is part of what clients are told.
        discovery.publish(slice.value, next.done === true);
        slice = next;
        if (performance.now() - turnBeganMs < TURN_MS) continue;
        await nextTurn();
        if (this.#stopped) return;
        turnBeganMs = performance.now();
      }
      metrics.propagation.observe((performance.now() - sinceMs) / 1000);
    }
    const changed = builder.takeChangedConditions();
    this.#logConditions(changed);
    this.#observer.published(changed);
  }

  #takeUnpublished(): readonly ObjectChange[] {
    const changes = this.#unpublished;
    this.#unpublished = [];
    return changes;
  }

  /** One line when what became of an object changes for the worse. */
  #logConditions(changed: ReadonlySet<ObjectKey>): void {
    const conditions = this.#parts.builder.conditions();
    for (const object of changed) {
      const unsound = (conditions.get(object) ?? []).filter((condition) => !isSound(condition));
      const [first] = unsound;
      const text = unsound.map(({ type, reason, message }) => `${type}/${reason}: ${message}`).join('; ');
      if (first !== undefined && this.#loggedConditions.get(object) !== text) {
        const { type, status, reason, message } = first;
        log.warn({ object, type, status, reason, detail: message }, 'not enforced as written');
      }
      if (text === '') this.#loggedConditions.delete(object);
      else this.#loggedConditions.set(object, text);
    }
  }
}
