/**
 * Keeps the ConfigMaps of `trust-distribution.ts` in every namespace as they shall be: made in new namespaces, written
 * again when they were edited or deleted, and everywhere when the roots or the revocation lists changed. A task of the
 * leader. Where no revocation list is configured, ConfigMaps with one are left alone.
 */
import type { KubeClient } from '../../kube/client.ts';
import { Reflector } from '../../kube/reflector.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { QueuedTask } from '../leader/queued-task.ts';
import type { RootStore } from './root-store.ts';
import {
  configMapOf,
  DISTRIBUTED_TEXTS,
  type DistributedText,
  isAsWanted,
  type NamespaceFacts,
  ROOTS_TEXT,
  readConfigMap,
  readNamespace,
  receivesRoots,
  type StandingConfigMap,
} from './trust-distribution.ts';

/** As the API server names us in managedFields. */
export const FIELD_MANAGER = 'ambit-control-ca';

type Closable = Pick<Reflector, 'start' | 'close' | 'synced'>;

export class TrustDistributor extends QueuedTask {
  readonly name = 'trust distribution';
  protected override readonly concurrency = 4;
  readonly #client: KubeClient;
  readonly #store: RootStore;
  readonly #namespaces = new Map<string, NamespaceFacts>();
  /** By name of the ConfigMap, then by namespace. */
  readonly #standing = new Map<string, Map<string, StandingConfigMap>>();
  #reflectors: Closable[] = [];
  #unsubscribe: (() => void) | undefined;

  constructor(client: KubeClient, store: RootStore) {
    super();
    this.#client = client;
    this.#store = store;
  }

  protected begin(): void {
    this.#namespaces.clear();
    this.#standing.clear();
    const texts = DISTRIBUTED_TEXTS.map((text) => this.#watchConfigMaps(text));
    const namespaces = this.#watchNamespaces();
    const all = [...texts, namespaces];
    this.#reflectors = all;
    for (const reflector of texts) reflector.start();
    // Namespaces come last: what stands is known before anything is found missing.
    void Promise.all(texts.map(({ synced }) => synced)).then(() => {
      if (this.#reflectors === all) namespaces.start();
    });
    this.#unsubscribe = this.#store.onChange(() => this.#addAll());
  }

  override async stop(): Promise<void> {
    this.#unsubscribe?.();
    const reflectors = this.#reflectors;
    this.#reflectors = [];
    await super.stop();
    await Promise.all(reflectors.map((reflector) => reflector.close()));
  }

  protected async run(key: string, signal: AbortSignal): Promise<void> {
    const [name, namespace = ''] = key.split('/');
    const distributed = DISTRIBUTED_TEXTS.find((candidate) => candidate.name === name);
    const facts = this.#namespaces.get(namespace);
    if (distributed === undefined || facts === undefined || !receivesRoots(facts)) return;
    const text = this.#textOf(distributed);
    if (text === undefined || isAsWanted(this.#standing.get(distributed.name)?.get(namespace), text)) return;
    const body = configMapOf(distributed, namespace, text);
    const options = { fieldManager: FIELD_MANAGER, force: true, signal };
    const written = await this.#client.apply(RESOURCES.ConfigMap, namespace, distributed.name, body, options);
    this.#remember(distributed, readConfigMap(written, distributed));
  }

  #textOf(distributed: DistributedText): string | undefined {
    const { rootsPem, crlPem } = this.#store.material;
    if (distributed === ROOTS_TEXT) return rootsPem === '' ? undefined : rootsPem;
    return crlPem;
  }

  #watchNamespaces(): Closable {
    const take = (facts: NamespaceFacts | undefined): void => {
      if (facts === undefined) return;
      this.#namespaces.set(facts.name, facts);
      this.#addNamespace(facts.name);
    };
    return new Reflector<NamespaceFacts | undefined>(
      this.#client,
      RESOURCES.Namespace,
      {},
      {
        read: readNamespace,
        replaced: (items) => {
          this.#namespaces.clear();
          for (const facts of items) take(facts);
        },
        changed: take,
        removed: (facts) => {
          if (facts !== undefined) this.#namespaces.delete(facts.name);
        },
        degraded: () => undefined,
      },
    );
  }

  #watchConfigMaps(distributed: DistributedText): Closable {
    const { name } = distributed;
    const forget = (namespace: string): void => {
      this.#standing.get(name)?.delete(namespace);
      this.add(`${name}/${namespace}`);
    };
    const take = (standing: StandingConfigMap | undefined): void => {
      if (standing === undefined) return;
      this.#remember(distributed, standing);
      const text = this.#textOf(distributed);
      if (text !== undefined && !isAsWanted(standing, text)) this.add(`${name}/${standing.namespace}`);
    };
    return new Reflector<StandingConfigMap | undefined>(
      this.#client,
      RESOURCES.ConfigMap,
      { fieldSelector: `metadata.name=${name}` },
      {
        read: (item) => readConfigMap(item, distributed),
        replaced: (items) => {
          const present = new Set(items.map((item) => item?.namespace));
          for (const namespace of this.#standing.get(name)?.keys() ?? [])
            if (!present.has(namespace)) forget(namespace);
          for (const item of items) take(item);
        },
        changed: take,
        removed: (item) => {
          if (item !== undefined) forget(item.namespace);
        },
        degraded: () => undefined,
      },
    );
  }

  #remember({ name }: DistributedText, standing: StandingConfigMap | undefined): void {
    if (standing === undefined) return;
    const known = this.#standing.get(name) ?? new Map<string, StandingConfigMap>();
    known.set(standing.namespace, standing);
    this.#standing.set(name, known);
  }

  #addNamespace(namespace: string): void {
    for (const { name } of DISTRIBUTED_TEXTS) this.add(`${name}/${namespace}`);
  }

  #addAll(): void {
    for (const namespace of this.#namespaces.keys()) this.#addNamespace(namespace);
  }
}
