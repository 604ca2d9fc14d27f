/**
 * What is served, of one resource type, as a log in the order of last changes.
 *
 *   log      [ entry, entry, ... ]  ascending sequence; an entry whose name changed again is superseded and skipped
 *   entries  name -> its latest entry
 *
 * Everything a client has to remember is how far it has read: a new client reads from the beginning and gets every
 * resource once, a client that is up to date waits at the end. Removals stay in the log until every reader has passed
 * them (`trim`); superseded entries are swept out when they outnumber the others. Every name has a small number, its
 * slot, so that a set of names is a bit per name.
 */
import { ResourceIndex } from '../discovery/lookup.ts';
import type { Resource, ResourceType, ResourceUpdate } from '../discovery/resource.ts';

export interface LogEntry {
  readonly name: string;
  /** Undefined: removed. */
  readonly resource: Resource | undefined;
  /** What a removed resource was; undefined unless it was removed. */
  readonly removed: Resource | undefined;
  /** For whom alone (`privateTo`) earlier versions were, where that differs from this one; undefined: they were like it. */
  readonly formerViews: readonly string[] | undefined;
  readonly sequence: number;
  readonly slot: number;
  /** When it was published, milliseconds of `performance.now`. */
  readonly atMs: number;
  /** False when its name has changed again since. */
  readonly latest: boolean;
}

type OwnEntry = { -readonly [K in keyof LogEntry]: LogEntry[K] };

/** Superseded entries that are not worth sweeping. */
const SWEEP_ABOVE = 1024;

export class ResourceStore {
  readonly type: ResourceType;
  readonly index = new ResourceIndex();
  readonly #entries = new Map<string, OwnEntry>();
  #log: OwnEntry[] = [];
  readonly #freeSlots: number[] = [];
  #slots = 0;
  #sequence = 0;
  #live = 0;

  constructor(type: ResourceType) {
    this.type = type;
  }

  /** Number of the last change: where a reader is that has seen everything. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Resources that exist. */
  get size(): number {
    return this.#live;
  }

  /** Removals that are still remembered. */
  get removals(): number {
    return this.#entries.size - this.#live;
  }

  /** Slots are below this number. */
  get slots(): number {
    return this.#slots;
  }

  /** Takes updates over; true when anything differs from before. */
  publish(updates: readonly ResourceUpdate[], nowMs = performance.now()): boolean {
    const before = this.#sequence;
    for (const { type, name, resource } of updates) {
      if (type !== this.type) continue;
      const entry = this.#entries.get(name);
      const current = entry?.resource;
      if (current?.version === resource?.version) continue;
      if (current !== undefined) this.index.remove(current);
      if (resource !== undefined) this.index.add(resource);
      this.#live += (resource === undefined ? 0 : 1) - (current === undefined ? 0 : 1);
      const removed = resource === undefined ? current : undefined;
      const slot = entry?.slot ?? this.#freeSlots.pop() ?? this.#slots++;
      if (entry !== undefined) entry.latest = false;
      const sequence = ++this.#sequence;
      const formerViews = entry && viewsBefore(entry, (resource ?? removed)?.privateTo);
      const known = resource?.name ?? name;
      const next = { name: known, resource, removed, formerViews, sequence, slot, atMs: nowMs, latest: true };
      this.#entries.set(next.name, next);
      this.#log.push(next);
    }
    if (this.#log.length > SWEEP_ABOVE + 2 * this.#entries.size) this.#sweep();
    return this.#sequence !== before;
  }

  find(name: string): Resource | undefined {
    return this.#entries.get(name)?.resource;
  }

  entry(name: string): LogEntry | undefined {
    return this.#entries.get(name);
  }

  /** Names of everything that exists. */
  *names(): Iterable<string> {
    for (const [name, { resource }] of this.#entries) if (resource !== undefined) yield name;
  }

  /** Length of the log, superseded entries included; valid, like every index into it, until the next change. */
  get length(): number {
    return this.#log.length;
  }

  /** Index of the first entry after `sequence`. */
  indexAfter(sequence: number): number {
    if (sequence >= this.#sequence) return this.#log.length;
    let low = 0;
    let high = this.#log.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#log[middle]?.sequence ?? 0) <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  at(index: number): LogEntry | undefined {
    return this.#log[index];
  }

  /** Forgets removals that every reader has passed: `oldest` is the smallest sequence any of them remembers. */
  trim(oldest: number): void {
    let forgotten = 0;
    for (const entry of this.#log) {
      if (entry.sequence > oldest) break;
      if (entry.resource !== undefined || !entry.latest) continue;
      this.#entries.delete(entry.name);
      entry.latest = false;
      this.#freeSlots.push(entry.slot);
      forgotten++;
    }
    if (forgotten > 0) this.#sweep();
  }

  #sweep(): void {
    this.#log = this.#log.filter((entry) => entry.latest);
  }
}

/** Bounded by the views that one name has had since it was last forgotten: hardly ever more than one. */
function viewsBefore(
  { resource, removed, formerViews }: LogEntry,
  now: string | undefined,
): readonly string[] | undefined {
  const before = (resource ?? removed)?.privateTo;
  if (formerViews === undefined && (before === undefined || before === now)) return undefined;
  const views = new Set(formerViews);
  if (before !== undefined) views.add(before);
  return [...views];
}
