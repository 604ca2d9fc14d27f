/**
 * Two replicas of the control plane on one API server: all serve, one writes. Whoever dies, nothing is lost, and no
 * certificate request fails while replicas come and go in order.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { clusterBinary, missingBinaries } from '../support/cluster-binaries.ts';
import { installControlChart } from '../support/control-chart.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { ControlReplica, createAgent, createPod, distributedRoots } from '../support/kube-control.ts';

/** Each with a pod of its own: an identity is not certified many times a second. */
const ACCOUNTS = Array.from({ length: 20 }, (_, index) => `account-${index}`);
const POLICIES = '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies';
/** From the death of the leader to the first write of another: the lease and one look. */
const TAKEOVER_MS = 12_000;

const identity = (turn: number): string => `spiffe://cluster.local/ns/shop/sa/${ACCOUNTS[turn % ACCOUNTS.length]}`;

const skip = missingBinaries(['helm']).length > 0 ? `needs ${clusterBinary('helm')}` : false;

describe('several replicas', { skip }, () => {
  let api: KubeApi;
  let chart: readonly unknown[];
  let token: string;

  before(async () => {
    api = await openKubeApi();
    chart = await installControlChart(api);
    token = await createAgent(api, 'node-a');
    await api.namespace('shop');
    for (const [index, account] of ACCOUNTS.entries()) {
      await api.createServiceAccount('shop', account);
      await createPod(api, { namespace: 'shop', name: account, ip: `10.1.0.${index + 1}`, node: 'node-a', account });
    }
  });
  after(() => api[Symbol.asyncDispose]());

  const put = async (name: string): Promise<void> => {
    await api.call('POST', POLICIES, {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name },
      spec: { action: 'DENY', rules: [{ from: [{ source: { namespaces: ['elsewhere'] } }] }] },
    });
  };

  /** Names of policies that have no condition yet. */
  const withoutCondition = async (): Promise<string[]> => {
    const items = valueAt(await api.call('GET', POLICIES), 'items');
    return (Array.isArray(items) ? items : [])
      .filter((policy) => valueAt(policy, 'status', 'conditions') === undefined)
      .map((policy) => textAt(policy, 'metadata', 'name'));
  };

  const leaderOf = (replicas: readonly ControlReplica[]): Promise<ControlReplica> =>
    eventually(
      'one leads',
      async () => {
        for (const replica of replicas) if (await replica.isLeading()) return replica;
        throw new Error('nobody leads');
      },
      TAKEOVER_MS,
    );

  test('the leader is killed under load: another takes over in seconds, and nothing is lost', async (context) => {
    const replicas = await Promise.all(
      ['one', 'two'].map(async (name) => (await ControlReplica.start(context, api, { name, chart })).ready()),
    );
    const roots = await distributedRoots(api);
    const first = await leaderOf(replicas);
    const survivor = replicas.find((replica) => replica !== first);
    assert.ok(survivor !== undefined && !(await survivor.isLeading()), 'one leads, the other does not');

    let count = 0;
    let certificates = 0;
    const loading = new AbortController();
    const load = (async () => {
      while (!loading.signal.aborted) {
        await put(`load-${count++}`);
        // Whoever survives serves all the time.
        await survivor.certificate(roots, token, identity(certificates));
        certificates++;
        await delay(50);
      }
    })();
    let tookMs = 0;
    try {
      await delay(1000);
      const killedMs = performance.now();
      await first.process.kill();
      await leaderOf([survivor]);
      tookMs = performance.now() - killedMs;
      await delay(500);
    } finally {
      loading.abort();
      await load;
    }
    await eventually(
      'every policy has its condition',
      async () => assert.deepEqual(await withoutCondition(), []),
      TAKEOVER_MS,
    );
    context.diagnostic(
      `another leads after ${(tookMs / 1000).toFixed(1)} s; ${count} policies, ${certificates} certificates, none lost`,
    );
    assert.ok(tookMs < TAKEOVER_MS);
    assert.equal(await distributedRoots(api), roots, 'the roots are those of before');
  });

  test('a rolling update: no certificate request fails, streams move, the lease is handed over', async (context) => {
    const begin = async (name: string): Promise<ControlReplica> =>
      (await ControlReplica.start(context, api, { name, chart, env: { AMBIT_DRAIN_TIME: '2s' } })).ready();
    let old = [await begin('old-1'), await begin('old-2')];
    const roots = await distributedRoots(api);
    await leaderOf(old);
    /** As a Service: those that were ready a moment ago. */
    let serving = [...old];
    const updating = new AbortController();
    let requests = 0;
    const clients = [1, 2].map(async (seed) => {
      for (let turn = seed; !updating.signal.aborted; turn++) {
        const replica = serving[turn % serving.length];
        assert.ok(replica !== undefined);
        await replica.certificate(roots, token, identity(requests));
        requests++;
        await delay(100);
      }
    });
    const { stream } = (old[0] as ControlReplica).xds(context, roots, token);
    stream.send({ type: 'type.googleapis.com/istio.workload.Address', nodeId: 'ztunnel~192.0.2.1~a.b~b.svc.x' });
    await stream.nextAcknowledged();
    try {
      for (const name of ['new-1', 'new-2']) {
        const fresh = await begin(name);
        const [gone, ...rest] = old;
        assert.ok(gone !== undefined);
        gone.signal('SIGTERM');
        // Endpoints follow some time after the pod was told to stop.
        await delay(300);
        old = [...rest, fresh];
        serving = [...old];
        await gone.process.ended;
      }
    } finally {
      updating.abort();
      await Promise.all(clients);
    }
    assert.equal((await stream.ended()).status, '14', 'the client was told to go elsewhere');
    await leaderOf(old);
    await put('after-update');
    await eventually('the new leader writes', async () => assert.deepEqual(await withoutCondition(), []), TAKEOVER_MS);
    context.diagnostic(`${requests} certificate requests, none failed`);
    assert.ok(requests > 20);
  });

  test('an API server that is away makes nobody write beside another', async (context) => {
    const replicas = await Promise.all(
      ['left', 'right'].map(async (name) => (await ControlReplica.start(context, api, { name, chart })).ready()),
    );
    await leaderOf(replicas);
    const watching = new AbortController();
    let most = 0;
    let least = replicas.length;
    const watch = (async () => {
      while (!watching.signal.aborted) {
        const leading = await Promise.all(replicas.map((replica) => replica.isLeading()));
        const count = leading.filter(Boolean).length;
        most = Math.max(most, count);
        least = Math.min(least, count);
        await delay(20);
      }
    })();
    try {
      await api.stopServer();
      await eventually('a leader that cannot renew stops', () => assert.equal(least, 0), TAKEOVER_MS);
      await api.startServer();
      await leaderOf(replicas);
      await delay(1000);
    } finally {
      watching.abort();
      await watch;
    }
    assert.equal(most, 1);
    await put('after-outage');
    await eventually('the leader writes', async () => assert.deepEqual(await withoutCondition(), []), TAKEOVER_MS);
  });
});
