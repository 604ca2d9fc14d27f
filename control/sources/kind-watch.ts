/**
 * One kind of object at the API server: what was told of it, what must be told next, what is wrong with it. Decodes
 * objects; an object that cannot be decoded keeps its last good version and becomes a problem.
 */
import { type FieldProblem, isRecord } from '../../core/decoder.ts';
import { isNotFound, isUnreachable, type KubernetesApiError } from '../../kube/api-error.ts';
import type { KubeClient, Selection } from '../../kube/client.ts';
import { Reflector, type ReflectorTimes } from '../../kube/reflector.ts';
import { type Resource, resourceName } from '../../kube/resource.ts';
import { sleep } from '../../kube/sleep.ts';
import { sameContent } from '../objects/equality.ts';
import { decodeObject, type KindRow, type MeshObject, type ObjectKey, objectKey } from '../objects/object.ts';
import { standInFor } from '../objects/policy-stand-in.ts';
import type { KindState, SourceProblem } from './source.ts';
import { fateOf } from './stand-ins.ts';
import { formatPath } from './yaml-objects.ts';

export interface KindWatchOptions {
  readonly client: KubeClient;
  readonly row: KindRow;
  readonly resource: Resource;
  readonly selection: Selection;
  readonly times: Partial<ReflectorTimes>;
  /** The kind may be missing at the server: it comes with a definition that is installed separately. */
  readonly optional: boolean;
  /** How long the definition must be missing before the objects that were read of it count as gone. */
  readonly goneMs: number;
  /** Something can be taken, or the state is another. Called often; does no work itself. */
  changed(): void;
}

/** What is kept of an object as it arrives. */
type Item =
  | { readonly kind: 'good'; readonly key: ObjectKey; readonly object: MeshObject }
  | {
      readonly kind: 'bad';
      readonly key: ObjectKey;
      readonly problem: Omit<SourceProblem, 'reason'>;
      readonly why: string;
    };

/** Problems of one object that are put into words. */
const MAX_WORDS = 5;

export class KindWatch {
  readonly #options: KindWatchOptions;
  readonly #reflector: Reflector<Item>;
  readonly #name: string;
  readonly #told = new Map<ObjectKey, MeshObject>();
  /** The object as it is now; undefined: gone. What was told may be equal. */
  readonly #pending = new Map<ObjectKey, MeshObject | undefined>();
  readonly #bad = new Map<ObjectKey, Extract<Item, { kind: 'bad' }>>();
  readonly #stop = new AbortController();
  #state: 'listing' | 'current' | 'absent' = 'listing';
  #degraded: { readonly reason: string; readonly unreachable: boolean } | undefined;
  /** The server says that there is no such resource. */
  #missing = false;
  #confirming = false;
  #problemsChanged = false;

  constructor(options: KindWatchOptions) {
    this.#options = options;
    this.#name = resourceName(options.resource);
    const { client, resource, selection, times } = options;
    this.#reflector = new Reflector<Item>(
      client,
      resource,
      { ...selection, times },
      {
        read: (item) => this.#read(item),
        listed: (items) => {
          for (const item of items) this.#take(item);
        },
        replaced: (items) => this.#replaced(items),
        changed: (item) => this.#take(item),
        removed: (item) => this.#remove(item.key),
        degraded: (reason, error) => this.#setDegraded(reason, error),
      },
    );
  }

  start(): void {
    this.#reflector.start();
  }

  async close(): Promise<void> {
    this.#stop.abort('closed');
    await this.#reflector.close();
  }

  /** Everything there is was seen, or there is no such kind. */
  get isSynced(): boolean {
    return this.#state !== 'listing';
  }

  get lists(): number {
    return this.#reflector.lists;
  }

  get hasPending(): boolean {
    return this.#pending.size > 0;
  }

  /** For people and metrics. */
  state(): KindState {
    const state = this.#state === 'absent' ? 'absent' : !this.isSynced ? 'listing' : 'synced';
    const current = this.#degraded === undefined ? state : 'degraded';
    return { kind: this.#options.row.kind, state: current, objects: this.#told.size };
  }

  /** Undefined once it is synced. */
  waitsFor(): string | undefined {
    if (this.isSynced) return undefined;
    return `${this.#name}: ${this.#degraded?.reason ?? 'being listed'}`;
  }

  /** Moves at most `room` changes into the lists; returns how many. */
  take(room: number, upserted: MeshObject[], removed: ObjectKey[]): number {
    let taken = 0;
    for (const [key, object] of this.#pending) {
      if (taken >= room) break;
      this.#pending.delete(key);
      const known = this.#told.get(key);
      if (object === undefined) {
        if (!this.#told.delete(key)) continue;
        removed.push(key);
      } else {
        if (known !== undefined && sameContent(known, object)) continue;
        this.#told.set(key, object);
        upserted.push(object);
      }
      taken++;
    }
    return taken;
  }

  /** True when the problems may be others than at the last call. */
  takeProblemChange(): boolean {
    const changed = this.#problemsChanged;
    this.#problemsChanged = false;
    return changed;
  }

  problems(): SourceProblem[] {
    const result: SourceProblem[] = [];
    const ofKind = { where: this.#name, line: undefined, object: undefined };
    if (this.#state === 'absent') {
      const reason = `is not installed at the API server: there are no objects of the kind ${this.#options.row.kind}`;
      result.push({ ...ofKind, severity: 'info', reason });
    } else if (this.#degraded !== undefined) {
      const { reason, unreachable } = this.#degraded;
      // Of the server, not of this kind: every kind says the same.
      const where = unreachable ? this.#options.client.server : this.#name;
      const words = unreachable ? reason.slice(reason.indexOf(': ') + 2) : reason;
      result.push({ ...ofKind, where, severity: 'error', reason: words });
    }
    for (const { key, problem, why } of this.#bad.values()) {
      const kept = this.#told.has(key) || this.#pending.get(key) !== undefined;
      result.push({ ...problem, reason: `${why} (${fateOf(kept, problem.standIn)})` });
    }
    return result;
  }

  #read(value: unknown): Item {
    const { row } = this.#options;
    const decoded = decodeObject(row, value);
    if (decoded.ok) return { kind: 'good', key: objectKey(decoded.value), object: decoded.value };
    const { namespace, name } = nameOf(value);
    const key = `${row.kind}/${row.clusterScoped ? '' : namespace}/${name}`;
    const why = inWords(decoded.problems);
    const standIn = standInFor(row.kind, value, why);
    const where = row.clusterScoped ? `${row.kind} ${name}` : `${row.kind} ${namespace}/${name}`;
    const problem = { severity: 'error', where, line: undefined, object: key, ...(standIn && { standIn }) } as const;
    return { kind: 'bad', key, problem, why };
  }

  #replaced(items: readonly Item[]): void {
    // They were taken as they were listed.
    const present = new Set(items.map(({ key }) => key));
    for (const key of this.#told.keys()) if (!present.has(key)) this.#remove(key);
    for (const [key, object] of this.#pending) if (object !== undefined && !present.has(key)) this.#remove(key);
    for (const key of this.#bad.keys()) if (!present.has(key)) this.#remove(key);
    this.#missing = false;
    if (this.#state !== 'current') this.#problemsChanged = true;
    this.#state = 'current';
    this.#options.changed();
  }

  #take(item: Item): void {
    if (item.kind === 'bad') {
      this.#bad.set(item.key, item);
      this.#problemsChanged = true;
    } else {
      if (this.#bad.delete(item.key)) this.#problemsChanged = true;
      this.#pending.set(item.key, item.object);
    }
    this.#options.changed();
  }

  #remove(key: ObjectKey): void {
    if (this.#bad.delete(key)) this.#problemsChanged = true;
    this.#pending.set(key, undefined);
    this.#options.changed();
  }

  #setDegraded(reason: string | undefined, error: KubernetesApiError | undefined): void {
    const unreachable = error !== undefined && isUnreachable(error);
    this.#degraded = reason === undefined ? undefined : { reason, unreachable };
    this.#missing = error !== undefined && isNotFound(error);
    this.#problemsChanged = true;
    this.#options.changed();
    if (this.#missing && this.#options.optional && this.#state !== 'absent' && !this.#confirming) {
      this.#confirming = true;
      void this.#confirmAbsence().finally(() => {
        this.#confirming = false;
      });
    }
  }

  /**
   * A server that has just started may not know a definition yet. The kind counts as absent when the discovery document
   * does not list it either; objects that were read are given up only when that lasts for `goneMs`.
   */
  async #confirmAbsence(): Promise<void> {
    const { signal } = this.#stop;
    const { goneMs } = this.#options;
    let sinceMs = performance.now();
    while (this.#missing && !signal.aborted) {
      const listed = await this.#isListed(signal);
      if (!this.#missing || signal.aborted) return;
      if (listed !== false) sinceMs = performance.now();
      const nothingKnown = this.#told.size === 0 && this.#pending.size === 0;
      if (listed === false && (nothingKnown || performance.now() - sinceMs >= goneMs)) {
        this.#replaced([]);
        this.#missing = true;
        this.#state = 'absent';
        return;
      }
      await sleep(Math.min(1000, goneMs / 4), signal);
    }
  }

  /** Undefined when the server does not say. */
  async #isListed(signal: AbortSignal): Promise<boolean | undefined> {
    const { client, resource } = this.#options;
    try {
      const path = `/apis/${resource.group}/${resource.version}`;
      return listsResource(await client.request({ method: 'GET', path, signal }), resource.plural);
    } catch (thrown) {
      return isNotFound(thrown) ? false : undefined;
    }
  }
}

/** True when a discovery document (`/apis/<group>/<version>`) lists the resource. */
function listsResource(document: unknown, plural: string): boolean {
  const resources = isRecord(document) && Array.isArray(document.resources) ? document.resources : [];
  return resources.some((entry: unknown) => isRecord(entry) && entry.name === plural);
}

function nameOf(value: unknown): { namespace: string; name: string } {
  const metadata = isRecord(value) && isRecord(value.metadata) ? value.metadata : {};
  const { name, namespace } = metadata;
  return { name: typeof name === 'string' ? name : '', namespace: typeof namespace === 'string' ? namespace : '' };
}

function inWords(problems: readonly FieldProblem[]): string {
  const words = problems.slice(0, MAX_WORDS).map(({ path, reason }) => `${formatPath(path)} ${reason}`);
  if (problems.length > MAX_WORDS) words.push(`and ${problems.length - MAX_WORDS} more`);
  return words.join('; ');
}
