/**
 * A model checker: a cluster is changed at random while watches are cut, the API server restarts and etcd forgets. After
 * every burst, what is served incrementally equals what a control plane that starts now would serve, conditions too.
 * The seed is in every failure; AMBIT_CHURN_SEED repeats it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ObjectCondition } from '../../control/discovery/condition.ts';
import { MeshBuilder } from '../../control/discovery/mesh-builder.ts';
import { ObjectStore } from '../../control/model/object-store.ts';
import { KIND_TABLE, type ObjectKey } from '../../control/objects/object.ts';
import { KubernetesSource } from '../../control/sources/kubernetes.ts';
import type { ChangeSet, SourceProblem, SourceSink } from '../../control/sources/source.ts';
import { withStandIns } from '../../control/sources/stand-ins.ts';
import { KubeClient } from '../../kube/client.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { FAST_TIMES, kubeconfigVia } from '../support/kube-source-world.ts';
import { MeshChurn } from '../support/mesh-churn.ts';
import { TcpRelay } from '../support/tcp-relay.ts';

const SEED = Number(process.env.AMBIT_CHURN_SEED ?? 20_260_101);
const ROUNDS = 8;
const STEPS_PER_ROUND = 50;
const SETTINGS = {
  clusterId: 'Kubernetes',
  network: '',
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  rootNamespace: 'istio-system',
};

let api: KubeApi;
before(async () => {
  api = await openKubeApi({ gatewayApi: true });
});
after(() => api[Symbol.asyncDispose]());

/** Source, store and builder as the control plane joins them, and what would be served. */
class Served implements SourceSink, AsyncDisposable {
  readonly #client: KubeClient;
  readonly #source: KubernetesSource;
  readonly #store = new ObjectStore();
  readonly #builder = new MeshBuilder(this.#store, SETTINGS);
  readonly #resources = new Map<string, string>();
  readonly #synced = Promise.withResolvers<void>();
  #problems: readonly SourceProblem[] = [];

  constructor(kubeconfig: string) {
    this.#client = KubeClient.open({ kubeconfig, userAgent: 'ambit-test' });
    this.#source = new KubernetesSource(this.#client, { rootNamespace: 'istio-system', times: FAST_TIMES });
  }

  async start(): Promise<void> {
    await this.#source.start(withStandIns(this));
    await this.#synced.promise;
  }

  changed(change: ChangeSet): void {
    for (const { type, name, resource } of this.#builder.update(this.#store.apply(change))) {
      const key = `${type} ${name}`;
      if (resource === undefined) this.#resources.delete(key);
      else this.#resources.set(key, resource.version);
    }
  }

  synced(): void {
    this.#synced.resolve();
  }

  problems(current: readonly SourceProblem[]): void {
    this.#problems = current;
  }

  /** Everything a receiver could notice, in an order of its own. */
  view(): object {
    const conditions = Array.from(
      this.#builder.conditions(),
      ([key, list]) => [key, list.map(inWords).sort()] as const,
    );
    const objects = KIND_TABLE.flatMap(({ kind }) =>
      Array.from(this.#store.all(kind), ({ meta }) => `${kind}/${meta.namespace}/${meta.name}`),
    );
    return {
      objects: objects.sort(),
      resources: [...this.#resources].sort(byName),
      conditions: conditions.filter(([, list]) => list.length > 0).sort(byName),
      // Whether a good version is kept is history; that the object is wrong is not.
      wrong: this.#problems.flatMap(({ object }) => object ?? []).sort(),
    };
  }

  /** Objects that are wrong and of which an older version is in use. */
  keptGood(): ObjectKey[] {
    return this.#problems.flatMap(({ object, reason }) =>
      object !== undefined && reason.includes('last good version stays') ? object : [],
    );
  }

  get lists(): number {
    return this.#source.lists;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.close();
    this.#client.close();
  }
}

test(`what is served after any churn is what a fresh start would serve (seed ${SEED})`, async () => {
  const churn = new MeshChurn(api, SEED);
  await churn.prepare();
  await using relay = await TcpRelay.open(api.port);
  await using served = new Served(kubeconfigVia(api, relay.port));
  await served.start();
  for (let round = 0; round < ROUNDS; round++) {
    for (let step = 0; step < STEPS_PER_ROUND; step++) {
      await churn.step();
      if (churn.chance(0.04)) relay.cut();
    }
    if (round % 3 === 1) await api.restart();
    if (round % 3 === 2) await api.compact();
    await using fresh = new Served(api.kubeconfig);
    await fresh.start();
    const what = `round ${round} of seed ${SEED}: served equals a fresh start`;
    await eventually(
      what,
      async () => {
        // A start from nothing cannot know the last good version of what is wrong now.
        await churn.remove(served.keptGood());
        assert.deepEqual(served.view(), fresh.view());
      },
      15_000,
    );
  }
  for (const { kind } of KIND_TABLE) assert.ok((churn.made.get(kind) ?? 0) > 0, `${kind} was changed`);
});

function inWords({ type, status, reason, message }: ObjectCondition): string {
  return `${type} ${status} ${reason} ${message}`;
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
