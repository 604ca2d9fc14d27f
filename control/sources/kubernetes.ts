/**
 * The Kubernetes source: every kind of the table, listed and watched at one API server.
 *
 * Each kind has a Reflector. Objects are decoded as they arrive, what differs from what was told is collected by key and
 * told in slices, so that a storm costs turns and not memory. A kind whose definition is not installed is empty and is
 * picked up when it appears; a kind that may not be read keeps the source from being synced and is named. Nothing that
 * was told is taken back because the server is away.
 */
import { logger } from '../../core/log.ts';
import type { KubeClient, Selection } from '../../kube/client.ts';
import type { ReflectorTimes } from '../../kube/reflector.ts';
import { RESOURCES, type Resource } from '../../kube/resource.ts';
import { MESH_CONFIG_NAME } from '../objects/mesh-config.ts';
import { KIND_TABLE, type KindRow, type MeshObject, type ObjectKey } from '../objects/object.ts';
import { KindWatch } from './kind-watch.ts';
import type { KindState, Source, SourceProblem, SourceSink } from './source.ts';

export interface KubernetesSourceOptions {
  /** Where MeshConfig is. */
  readonly rootNamespace: string;
  readonly times?: Partial<KubernetesSourceTimes>;
}

export interface KubernetesSourceTimes extends Partial<ReflectorTimes> {
  /** How long a definition must be missing before the objects that were read of its kind count as gone. */
  readonly goneMs: number;
}

export const KUBERNETES_SOURCE_LIMITS = {
  /** Changes that are told at once; more follow in the next turn. */
  sliceObjects: 500,
  /** Problems without a stand-in that are told; the rest is counted. */
  maxProblems: 1000,
} as const;

const GONE_MS = 10_000;
/** Few replicas ask, and all agents wait for what they hear: after an outage they are back sooner than others. */
const MAX_BACKOFF_MS = 5_000;

/** API groups whose definitions are installed separately. */
const SEPARATE_GROUPS = /(^gateway\.networking\.k8s|\.istio)\.io$/;

const log = logger('kubernetes');

export class KubernetesSource implements Source {
  readonly #client: KubeClient;
  readonly #kinds: readonly KindWatch[];
  #sink: SourceSink | undefined;
  #flush: NodeJS.Immediate | undefined;
  #synced = false;
  #toldProblems = '';

  constructor(client: KubeClient, options: KubernetesSourceOptions) {
    this.#client = client;
    const { goneMs = GONE_MS, ...times } = { maxBackoffMs: MAX_BACKOFF_MS, ...options.times };
    this.#kinds = KIND_TABLE.map((row) => {
      const { resource, selection } = whatToWatch(row, options.rootNamespace);
      const optional = SEPARATE_GROUPS.test(resource.group);
      const changed = (): void => this.#schedule();
      return new KindWatch({ client, row, resource, selection, optional, times, goneMs, changed });
    });
  }

  async start(sink: SourceSink): Promise<void> {
    this.#sink = sink;
    log.info({ server: this.#client.server }, 'reading the cluster');
    for (const kind of this.#kinds) kind.start();
  }

  kinds(): KindState[] {
    return this.#kinds.map((kind) => kind.state());
  }

  waitsFor(): string[] {
    if (this.#synced) return [];
    return this.#kinds.flatMap((kind) => kind.waitsFor() ?? []);
  }

  /** Complete lists of all kinds so far: how often a watch could not be resumed. */
  get lists(): number {
    return this.#kinds.reduce((sum, kind) => sum + kind.lists, 0);
  }

  async close(): Promise<void> {
    this.#sink = undefined;
    clearImmediate(this.#flush);
    await Promise.all(this.#kinds.map((kind) => kind.close()));
  }

  #schedule(): void {
    if (this.#sink === undefined || this.#flush !== undefined) return;
    this.#flush = setImmediate(() => {
      this.#flush = undefined;
      this.#tell();
    });
  }

  #tell(): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    const upserted: MeshObject[] = [];
    const removed: ObjectKey[] = [];
    let room: number = KUBERNETES_SOURCE_LIMITS.sliceObjects;
    for (const kind of this.#kinds) {
      if (room > 0) room -= kind.take(room, upserted, removed);
    }
    if (upserted.length + removed.length > 0) sink.changed({ upserted, removed });
    // The receiver may have closed the source.
    if (this.#sink === undefined) return;
    if (this.#kinds.some((kind) => kind.hasPending)) this.#schedule();
    this.#tellProblems(sink);
    if (this.#synced || !this.#kinds.every((kind) => kind.isSynced && !kind.hasPending)) return;
    this.#synced = true;
    sink.synced();
  }

  #tellProblems(sink: SourceSink): void {
    if (!this.#kinds.some((kind) => kind.takeProblemChange())) return;
    const all = withoutRepetitions(this.#kinds.flatMap((kind) => kind.problems()));
    const inForce = all.filter(({ standIn }) => standIn !== undefined);
    const others = all.filter(({ standIn }) => standIn === undefined);
    const { maxProblems } = KUBERNETES_SOURCE_LIMITS;
    const current: SourceProblem[] = [...others.slice(0, maxProblems), ...inForce];
    if (others.length > maxProblems) {
      const reason = `${others.length - maxProblems} more problems are not shown`;
      current.push({ severity: 'error', where: this.#client.server, line: undefined, object: undefined, reason });
    }
    // A stand-in may change while what is said of it stays the same.
    const standIns = current.map(({ standIn }) => standIn);
    const text = JSON.stringify(
      [current.map(({ where, reason, severity }) => [where, reason, severity]), standIns],
      plain,
    );
    if (text === this.#toldProblems) return;
    this.#toldProblems = text;
    sink.problems(current);
  }
}

/** Where the objects of a kind are, and which of them the mesh needs. */
function whatToWatch(row: KindRow, rootNamespace: string): { resource: Resource; selection: Selection } {
  switch (row.kind) {
    case 'Pod':
      // Pods that ended never run again; they go when they end.
      return select(RESOURCES.Pod, { fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed' });
    case 'EndpointSlice':
      // Those of Services with a selector say what the pods' labels say, at the price of the pods once more.
      return select(RESOURCES.EndpointSlice, {
        labelSelector: 'endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io',
      });
    case 'MeshConfig':
      return select(RESOURCES.ConfigMap, {
        namespace: rootNamespace,
        fieldSelector: `metadata.name=${MESH_CONFIG_NAME}`,
      });
    default:
      return select(RESOURCES[row.kind], {});
  }
}

function select(resource: Resource, selection: Selection): { resource: Resource; selection: Selection } {
  return { resource, selection };
}

/** Maps as JSON. */
function plain(_key: string, value: unknown): unknown {
  return value instanceof Map ? [...value] : value;
}

/** What several kinds say alike is said once: that the server cannot be reached. */
function withoutRepetitions(problems: readonly SourceProblem[]): SourceProblem[] {
  const said = new Set<string>();
  return problems.filter(({ where, reason, object }) => {
    if (object !== undefined) return true;
    const text = `${where} ${reason}`;
    const isNew = !said.has(text);
    said.add(text);
    return isNew;
  });
}
