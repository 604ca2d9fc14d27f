/** The Kubernetes source at a real API server: the contract of sources, and everything that can happen to a watch. */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { objectKey } from '../../control/objects/object.ts';
import type { KubernetesSourceTimes } from '../../control/sources/kubernetes.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { FAST_TIMES, KubeWorld, kubeconfigVia, removeNamespace } from '../support/kube-source-world.ts';
import { RecordingSink, sourceContract, startSource } from '../support/source-contract.ts';
import { TcpRelay } from '../support/tcp-relay.ts';

let api: KubeApi;
before(async () => {
  api = await openKubeApi();
});
after(() => api[Symbol.asyncDispose]());

/** A world without small objects. */
async function openWorld(
  context: TestContext,
  kubeconfig?: string,
  times?: Partial<KubernetesSourceTimes>,
): Promise<KubeWorld> {
  for (const item of (await api.admin().list(RESOURCES.Namespace, { labelSelector: 'l' })).items) {
    const name = (item as { metadata: { name: string } }).metadata.name;
    await removeNamespace(api, name);
  }
  const world = new KubeWorld(api, kubeconfig, times);
  context.after(async () => {
    await world.source.close();
    world.client.close();
  });
  return world;
}

sourceContract('the Kubernetes source', (context) => openWorld(context));

describe('a watch that ends', () => {
  test('goes on where it was, without another list, when its connection was cut', async (context) => {
    await using relay = await TcpRelay.open(api.port);
    const world = await openWorld(context, kubeconfigVia(api, relay.port));
    await world.put({ name: 'a', label: '1' });
    const sink = await startSource(context, world.source);
    const { lists } = world.source;
    for (const label of ['2', '3', '4']) {
      relay.cut();
      await world.put({ name: 'a', label });
      await sink.sees(`a=${label}`);
    }
    relay.cut();
    await world.remove('a');
    await sink.sees('');
    assert.equal(world.source.lists, lists, 'resumed, not listed again');
    assert.deepEqual(errors(sink), [], 'what heals at once is nothing to talk about');
  });

  test('goes on where it was when its connection fell silent without a word', async (context) => {
    await using relay = await TcpRelay.open(api.port);
    const times = { ...FAST_TIMES, silenceMs: 1000 };
    const world = await openWorld(context, kubeconfigVia(api, relay.port), times);
    const sink = await startSource(context, world.source);
    const { lists } = world.source;
    // The watch stands: one that is just being opened would end at the time limit of a call.
    await world.put({ name: 'b', label: '1' });
    await sink.sees('b=1');
    relay.silence();
    await world.put({ name: 'a', label: '1' });
    await sink.sees('a=1 b=1');
    assert.equal(world.source.lists, lists);
  });

  test('is nothing special when the server ends it, as it does every few minutes', async (context) => {
    const world = await openWorld(context, undefined, { ...FAST_TIMES, watchSeconds: 1 });
    const sink = await startSource(context, world.source);
    const { lists } = world.source;
    for (let round = 1; round <= 6; round++) {
      await world.put({ name: 'a', label: String(round) });
      await sink.sees(`a=${round}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    assert.equal(world.source.lists, lists);
    assert.deepEqual(errors(sink), []);
  });
});

describe('a server that goes away', () => {
  test('takes nothing back; the source is told of what was deleted and changed when it is there again', async (context) => {
    const world = await openWorld(context);
    await world.put({ name: 'a', label: '1' });
    await world.put({ name: 'b', label: '1' });
    const sink = await startSource(context, world.source);
    await api.stopServer();
    await eventually('the outage is told', () =>
      assert.deepEqual(
        sink.current.filter(({ severity }) => severity === 'error').map(({ where, reason }) => `${where}: ${reason}`),
        [`${api.url}: connect ECONNREFUSED 127.0.0.1:${api.port}`],
        'once, not for every kind',
      ),
    );
    assert.equal(sink.view(), 'a=1 b=1');
    await api.startServer();
    await removeNamespace(api, 'b');
    await world.put({ name: 'c', label: '1' });
    await sink.sees('a=1 c=1');
    await eventually('the outage is over', () => assert.deepEqual(errors(sink), []));
    assert.equal(sink.syncs, 1);
  });

  test('and forgets old versions: the next list tells what a watch can no longer tell', async (context) => {
    await using relay = await TcpRelay.open(api.port);
    const world = await openWorld(context, kubeconfigVia(api, relay.port));
    await world.put({ name: 'a', label: '1' });
    await world.put({ name: 'b', label: '1' });
    const sink = await startSource(context, world.source);
    const { lists } = world.source;
    const { port } = relay;
    await relay[Symbol.asyncDispose]();
    await removeNamespace(api, 'b');
    await world.put({ name: 'c', label: '1' });
    await api.compact();
    await using again = await TcpRelay.open(api.port, port);
    await sink.sees('a=1 c=1');
    assert.ok(world.source.lists > lists, 'the old version was refused, a new list was needed');
    await world.put({ name: 'a', label: '2' });
    await sink.sees('a=2 c=1');
    assert.ok(again.size > 0);
  });
});

test('a server that is away at the start is named, and the source is synced once it comes', async (context) => {
  const world = await openWorld(context);
  await world.put({ name: 'a', label: '1' });
  await api.stopServer();
  const sink = new RecordingSink();
  await world.source.start(sink);
  await eventually('it says what it waits for', () => {
    const reasons = world.source.waitsFor();
    assert.ok(
      reasons.some((reason) => /^pods: .*ECONNREFUSED/.test(reason)),
      reasons.join('\n'),
    );
  });
  assert.equal(sink.syncs, 0);
  await api.startServer();
  await eventually('synced', () => assert.equal(sink.syncs, 1), 15_000);
  assert.equal(sink.view(), 'a=1');
  assert.deepEqual(world.source.waitsFor(), []);
});

test('a kind that may not be read is named with the verb and the account, and keeps the source from being synced', async (context) => {
  const world = await openWorld(context, api.userKubeconfig({ user: 'reader', groups: ['readers'] }));
  const rule = { apiGroups: ['*'], resources: ['*'], verbs: ['list', 'watch'] };
  const except = ['nodes'];
  const all = await readableResources(except);
  await api.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterroles', {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name: 'reader' },
    rules: [{ ...rule, resources: all }],
  });
  await api.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'reader' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'reader' },
    subjects: [{ kind: 'Group', name: 'readers', apiGroup: 'rbac.authorization.k8s.io' }],
  });
  const sink = new RecordingSink();
  await world.source.start(sink);
  await eventually('only nodes are missing', () => {
    const [reason = '', ...others] = world.source.waitsFor();
    assert.deepEqual(others, []);
    assert.match(reason, /^nodes: .*403 .*"reader" cannot list resource "nodes"/);
  });
  assert.equal(sink.syncs, 0);
  const added = { rules: [{ ...rule, resources: [...all, ...except] }] };
  await api.admin().mergePatch(RESOURCES.ClusterRole, '', 'reader', added);
  await eventually('synced', () => assert.equal(sink.syncs, 1));
});

test('a kind without a definition is empty and told; it is picked up when the definition comes, and given up when it goes', async (context) => {
  const world = await openWorld(context);
  const sink = await startSource(context, world.source);
  const missing = 'gatewayclasses.gateway.networking.k8s.io';
  assert.deepEqual(
    sink.current.map(({ where, severity }) => `${severity} ${where}`),
    [`info gateways.gateway.networking.k8s.io`, `info ${missing}`],
  );
  await api.admin().create(RESOURCES.CustomResourceDefinition, '', gatewayClassDefinition());
  await eventually('the definition is served', async () => {
    await api.admin().create(RESOURCES.GatewayClass, '', {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'GatewayClass',
      metadata: { name: 'waypoint' },
      spec: { controllerName: 'istio.io/mesh-controller' },
    });
  });
  await eventually('the class is seen', () => assert.ok(sink.objects.has('GatewayClass//waypoint')));
  assert.ok(!sink.current.some(({ where }) => where === missing));
  await api.admin().delete(RESOURCES.CustomResourceDefinition, '', missing);
  await eventually('the class is given up', () => assert.ok(!sink.objects.has('GatewayClass//waypoint')), 15_000);
  await eventually('the definition is missing again', () =>
    assert.ok(sink.current.some(({ where }) => where === missing)),
  );
});

test('an invalid policy that was never good carries a stand-in; a good one is told', async (context) => {
  const world = await openWorld(context);
  const sink = await startSource(context, world.source);
  const policy = (spec: object) => ({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p', namespace: 'default' },
    spec,
  });
  const wrong = policy({ rules: [{ from: [{ source: { principals: ['a'], notNamespacez: ['b'] } }] }] });
  await api.admin().create(RESOURCES.AuthorizationPolicy, 'default', wrong);
  await eventually('the problem is told', () => {
    const [problem] = sink.current.filter(({ object }) => object === 'AuthorizationPolicy/default/p');
    assert.match(problem?.reason ?? '', /spec\.rules\[0\]\.from\[0\]\.source\.notNamespacez is not a field/);
    assert.equal(problem?.standIn?.kind, 'AuthorizationPolicy');
  });
  await api.admin().mergePatch(RESOURCES.AuthorizationPolicy, 'default', 'p', {
    spec: { selector: { matchLabels: { app: 'web' } } },
  });
  await eventually('the stand-in has the new scope', () => {
    const standIn = sink.current.find(({ object }) => object === 'AuthorizationPolicy/default/p')?.standIn;
    assert.deepEqual(standIn?.kind === 'AuthorizationPolicy' && [...(standIn.selector ?? [])], [['app', 'web']]);
  });
  await api.admin().mergePatch(RESOURCES.AuthorizationPolicy, 'default', 'p', {
    spec: { rules: [{ from: [{ source: { principals: ['a'] } }] }] },
  });
  await eventually('the policy is told', () => assert.ok(sink.objects.has('AuthorizationPolicy/default/p')));
  await api.admin().delete(RESOURCES.AuthorizationPolicy, 'default', 'p');
  await eventually('it goes', () => assert.ok(!sink.objects.has('AuthorizationPolicy/default/p')));
  assert.ok(!sink.current.some(({ object }) => object !== undefined));
});

test('only the ConfigMap of the mesh in the root namespace is read', async (context) => {
  const world = await openWorld(context);
  await api.namespace('istio-system');
  const sink = await startSource(context, world.source);
  const config = (namespace: string, name: string) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace },
    data: { mesh: 'trustDomain: example.org\n' },
  });
  await api.admin().create(RESOURCES.ConfigMap, 'istio-system', config('istio-system', 'other'));
  await api.admin().create(RESOURCES.ConfigMap, 'default', config('default', 'istio'));
  await api.admin().create(RESOURCES.ConfigMap, 'istio-system', config('istio-system', 'istio'));
  await eventually('it is seen', () => assert.ok(sink.objects.has('MeshConfig/istio-system/istio')));
  assert.deepEqual([...sink.objects.values()].filter(({ kind }) => kind === 'MeshConfig').map(objectKey), [
    'MeshConfig/istio-system/istio',
  ]);
});

function errors(sink: RecordingSink): string[] {
  return sink.current.filter(({ severity }) => severity === 'error').map(({ reason }) => reason);
}

async function readableResources(except: readonly string[]): Promise<string[]> {
  return Object.values(RESOURCES)
    .map(({ plural }) => plural)
    .filter((plural) => !except.includes(plural));
}

function gatewayClassDefinition(): object {
  const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: 'gatewayclasses.gateway.networking.k8s.io',
      annotations: { 'api-approved.kubernetes.io': 'unapproved, test' },
    },
    spec: {
      group: 'gateway.networking.k8s.io',
      scope: 'Cluster',
      names: { kind: 'GatewayClass', listKind: 'GatewayClassList', plural: 'gatewayclasses', singular: 'gatewayclass' },
      versions: [{ name: 'v1', served: true, storage: true, schema }],
    },
  };
}
