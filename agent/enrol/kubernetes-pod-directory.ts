/**
 * The pod directory of a node of a Kubernetes cluster: one reflector over the pods of this node, one over all namespaces
 * (of which only the labels are kept). The copy survives an API server that is away; `fetch` goes past it.
 *
 * An object that cannot be read keeps its last good version and is logged once per version.
 */
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import { Reflector, type ReflectorOptions } from '../../kube/reflector.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { fieldOf } from './object-fields.ts';
import type { DirectoryChange, FetchedFacts, NamespaceFacts, PodDirectory, PodFacts } from './pod-directory.ts';
import { readNamespaceFacts, readPodFacts } from './pod-facts.ts';

const log = logger('enrol');

/** What the reflector hands over: the facts, or why there are none. */
type Read<T> = { readonly key: string; readonly facts?: T };

export interface KubernetesPodDirectoryOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  readonly times?: ReflectorOptions['times'];
}

export class KubernetesPodDirectory implements PodDirectory {
  readonly #client: KubeClient;
  readonly #nodeName: string;
  readonly #listeners = new Set<(change: DirectoryChange) => void>();
  readonly #pods = new Map<string, PodFacts>();
  readonly #namespaces = new Map<string, NamespaceFacts>();
  readonly #reflectors: readonly { start(): void; close(): Promise<void> }[];
  /** Why the copy may be behind, by resource. */
  readonly #degraded = new Map<string, string>();
  #synced = false;

  private constructor({ client, nodeName, times = {} }: KubernetesPodDirectoryOptions) {
    this.#client = client;
    this.#nodeName = nodeName;
    const pods = new Reflector<Read<PodFacts>>(
      client,
      RESOURCES.Pod,
      { fieldSelector: `spec.nodeName=${nodeName}`, times },
      {
        read: (item) => readOrReport('pod', item, readPodFacts),
        replaced: (items) => {
          replace(this.#pods, items);
          this.#tell({ kind: 'all' });
        },
        changed: (item) => {
          if (item.facts === undefined) return;
          this.#pods.set(item.key, item.facts);
          this.#tellPod(item.key);
        },
        removed: (item) => {
          this.#pods.delete(item.key);
          this.#tellPod(item.key);
        },
        degraded: (reason) => this.#onDegraded('pods', reason),
      },
    );
    const namespaces = new Reflector<Read<NamespaceFacts>>(
      client,
      RESOURCES.Namespace,
      { times },
      {
        read: (item) => readOrReport('namespace', item, readNamespaceFacts),
        replaced: (items) => {
          replace(this.#namespaces, items);
          this.#tell({ kind: 'all' });
        },
        changed: (item) => {
          if (item.facts === undefined) return;
          this.#namespaces.set(item.key, item.facts);
          this.#tell({ kind: 'namespace', name: item.key });
        },
        removed: (item) => {
          this.#namespaces.delete(item.key);
          this.#tell({ kind: 'namespace', name: item.key });
        },
        degraded: (reason) => this.#onDegraded('namespaces', reason),
      },
    );
    this.#reflectors = [pods, namespaces];
    void Promise.all([pods.synced, namespaces.synced]).then(() => {
      this.#synced = true;
      this.#tell({ kind: 'all' });
    });
  }

  /** Begins to follow; does not wait for the API server, which may be away. */
  static open(options: KubernetesPodDirectoryOptions): KubernetesPodDirectory {
    const directory = new KubernetesPodDirectory(options);
    for (const reflector of directory.#reflectors) reflector.start();
    return directory;
  }

  get synced(): boolean {
    return this.#synced;
  }

  /** Why the copy may be behind the API server; empty when it is current. */
  degraded(): string[] {
    return [...this.#degraded].map(([what, reason]) => `${what}: ${reason}`);
  }

  findPod(namespace: string, name: string): PodFacts | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  findNamespace(name: string): NamespaceFacts | undefined {
    return this.#namespaces.get(name);
  }

  pods(): Iterable<PodFacts> {
    return this.#pods.values();
  }

  onChange(listener: (change: DirectoryChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Undefined also for a pod that is bound to another node: it is none of ours. */
  async fetch(namespace: string, name: string): Promise<FetchedFacts | undefined> {
    const [pod, known] = await Promise.all([
      this.#client.find(RESOURCES.Pod, namespace, name),
      this.#namespaces.get(namespace) ?? this.#client.find(RESOURCES.Namespace, '', namespace).then(factsOrUndefined),
    ]);
    if (pod === undefined || known === undefined) return undefined;
    const facts = readOrReport('pod', pod, readPodFacts).facts;
    return facts === undefined || facts.nodeName !== this.#nodeName ? undefined : { pod: facts, namespace: known };
  }

  close(): void {
    this.#listeners.clear();
    for (const reflector of this.#reflectors) void reflector.close();
  }

  #tellPod(key: string): void {
    const slash = key.indexOf('/');
    this.#tell({ kind: 'pod', namespace: key.slice(0, slash), name: key.slice(slash + 1) });
  }

  #tell(change: DirectoryChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }

  #onDegraded(what: string, reason: string | undefined): void {
    if (reason === undefined) {
      this.#degraded.delete(what);
      log.info({ resource: what }, 'the API server is followed again');
    } else {
      this.#degraded.set(what, reason);
      log.warn({ resource: what, reason }, 'the API server cannot be followed; what is known stays in use');
    }
  }
}

/** What is listed and cannot be read keeps its last good version. */
function replace<T>(map: Map<string, T>, items: readonly Read<T>[]): void {
  const listed = new Set(items.map(({ key }) => key));
  for (const key of map.keys()) if (!listed.has(key)) map.delete(key);
  for (const { key, facts } of items) if (facts !== undefined) map.set(key, facts);
}

function readOrReport<T>(what: string, item: unknown, read: (item: unknown) => T): Read<T> {
  const key = keyOf(item);
  try {
    return { key, facts: read(item) };
  } catch (thrown) {
    const { message } = toAmbitError(thrown, 'INVALID_OBJECT');
    log.warn({ [what]: key, reason: message }, 'an object of the API server cannot be read');
    return { key };
  }
}

function factsOrUndefined(object: unknown): NamespaceFacts | undefined {
  return object === undefined ? undefined : readOrReport('namespace', object, readNamespaceFacts).facts;
}

/** `namespace/name`, or the name of an object without namespace. */
function keyOf(item: unknown): string {
  const metadata = fieldOf(item, 'metadata');
  const [namespace, name] = [fieldOf(metadata, 'namespace'), fieldOf(metadata, 'name')];
  return typeof namespace === 'string' && namespace !== '' ? `${namespace}/${String(name)}` : String(name);
}
