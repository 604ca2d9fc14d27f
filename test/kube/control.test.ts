/**
 * The control plane as it is installed: the bundle as a process, with the rights and the environment of the chart, on a
 * real API server; a raw client on the other side.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { clusterBinary, missingBinaries } from '../support/cluster-binaries.ts';
import { installControlChart, MESH_NAMESPACE } from '../support/control-chart.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { ControlReplica, createAgent, createPod, distributedRoots } from '../support/kube-control.ts';
import type { RawResource, RawXdsStream } from '../support/raw-xds-client.ts';

const ADDRESS = 'type.googleapis.com/istio.workload.Address';
const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization';
/** Resident memory of an idle replica, bytes. */
const MAX_IDLE_BYTES = 130 * 1024 * 1024;

const skip = missingBinaries(['helm']).length > 0 ? `needs ${clusterBinary('helm')}` : false;

describe('a control plane on a cluster', { skip }, () => {
  let api: KubeApi;
  let chart: readonly unknown[];
  let token: string;

  before(async () => {
    api = await openKubeApi({ gatewayApi: true });
    chart = await installControlChart(api);
    token = await createAgent(api, 'node-a');
    await api.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
    await createPod(api, { namespace: 'shop', name: 'web-1', ip: '10.1.0.1', node: 'node-a', labels: { app: 'web' } });
  });
  after(() => api[Symbol.asyncDispose]());

  async function serving(context: TestContext, name = 'ambit-control-1'): Promise<ControlReplica> {
    return (await ControlReplica.start(context, api, { name, chart })).ready();
  }

  async function subscribe(context: TestContext, replica: ControlReplica): Promise<RawXdsStream> {
    const { stream } = replica.xds(context, await distributedRoots(api), token);
    stream.send({ type: ADDRESS, nodeId: 'ztunnel~192.0.2.1~agent.istio-system~istio-system.svc.cluster.local' });
    return stream;
  }

  test('serves workloads, services and policies as they are in the cluster', async (context) => {
    const replica = await serving(context);
    const stream = await subscribe(context, replica);
    const first = await stream.nextAcknowledged();
    const names = first.resources.map(({ name }) => name);
    assert.ok(names.includes('Kubernetes//Pod/shop/web-1'), names.join(' '));
    assert.ok(first.controlPlane.includes(replica.name), first.controlPlane);

    await api.call('POST', '/api/v1/namespaces/shop/services', {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
    });
    await sees(stream, (resource) => resource.name === 'shop/web.shop.svc.cluster.local');

    stream.send({ type: AUTHORIZATION });
    await stream.nextAcknowledged();
    await api.call('POST', '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies', {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'deny-all' },
      spec: { selector: { matchLabels: { app: 'web' } } },
    });
    await sees(stream, (resource) => resource.name === 'shop/deny-all');
  });

  test('writes what became of a policy into its status, for the generation it speaks of', async (context) => {
    await serving(context);
    const path = '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/deny-all';
    const condition = async (): Promise<unknown> => {
      const policy = await api.call('GET', path);
      const conditions = valueAt(policy, 'status', 'conditions');
      const found = (Array.isArray(conditions) ? conditions : []).find(
        (candidate: unknown) => textAt(candidate, 'type') === 'ZtunnelAccepted',
      );
      assert.equal(
        valueAt(found, 'observedGeneration'),
        valueAt(policy, 'metadata', 'generation'),
        JSON.stringify(policy),
      );
      return found;
    };
    const accepted = await eventually('the policy has a condition', condition, 15_000);
    assert.equal(textAt(accepted, 'status'), 'True');

    const policy = await api.call('GET', path);
    await api.call('PUT', path, {
      ...(policy as Record<string, unknown>),
      spec: { action: 'ALLOW', rules: [{ from: [{ source: { namespaces: ['shop'] } }] }] },
    });
    const changed = await eventually('the condition is of the new generation', condition, 15_000);
    assert.equal(valueAt(changed, 'observedGeneration'), 2);
    assert.equal(textAt(changed, 'lastTransitionTime'), textAt(accepted, 'lastTransitionTime'));
  });

  test('gives a host that has no address one, and tells agents of it', async (context) => {
    const replica = await serving(context);
    const stream = await subscribe(context, replica);
    await api.call('POST', '/apis/networking.istio.io/v1/namespaces/shop/serviceentries', {
      apiVersion: 'networking.istio.io/v1',
      kind: 'ServiceEntry',
      metadata: { name: 'outside' },
      spec: {
        hosts: ['outside.example.com'],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        resolution: 'DNS',
      },
    });
    const entry = await eventually(
      'an address is allocated',
      async () => {
        const path = '/apis/networking.istio.io/v1/namespaces/shop/serviceentries/outside';
        const found = await api.call('GET', path);
        assert.match(addressOf(found), /^240\.240\./);
        return found;
      },
      15_000,
    );
    const address = Buffer.from(addressOf(entry).split('.').map(Number));
    await sees(
      stream,
      (resource) => resource.name === 'shop/outside.example.com' && resource.content.includes(address),
    );
  });

  test('hands roots out to every namespace and certifies pods of the node that asks', async (context) => {
    const replica = await serving(context);
    const roots = await distributedRoots(api, 'shop');
    assert.equal(roots, await distributedRoots(api));
    const [leaf = ''] = await replica.certificate(roots, token, 'spiffe://cluster.local/ns/shop/sa/default');
    assert.equal(new X509Certificate(leaf).subjectAltName, 'URI:spiffe://cluster.local/ns/shop/sa/default');
    await assert.rejects(replica.certificate(roots, token, 'spiffe://cluster.local/ns/shop/sa/other'));
  });

  test('a workload with its own token takes nothing from the agent of its node, and is served until its pod is gone', async (context) => {
    const replica = await serving(context);
    const roots = await distributedRoots(api);
    await api.createServiceAccount('shop', 'curious');
    const pod = { namespace: 'shop', name: 'curious-1', ip: '10.1.0.77', node: 'node-a', account: 'curious' };
    await createPod(api, pod);
    const own = await api.serviceAccountToken('shop', 'curious', { audience: 'istio-ca', boundPod: pod.name });
    const streams = Array.from({ length: 9 }, () => replica.xds(context, roots, own).stream);
    for (const stream of streams) stream.send({ type: ADDRESS });
    assert.ok((await streams[0]?.nextAcknowledged())?.resources.length);
    await (await subscribe(context, replica)).nextAcknowledged();
    const clients = await replica.view('clients');
    const ofWorkload = (Array.isArray(clients) ? clients : []).filter((client) => textAt(client, 'pod') === pod.name);
    assert.deepEqual([...new Set(ofWorkload.map((client) => textAt(client, 'node')))], ['']);
    await api.call('DELETE', `/api/v1/namespaces/shop/pods/${pod.name}?gracePeriodSeconds=0`);
    await eventually(
      'its streams have ended',
      async () => assert.ok(!(await replica.status('/debug/clients')).text.includes(pod.name)),
      45_000,
    );
  });

  test('takes the taint off a node whose agent is ready, and off no other', async (context) => {
    await serving(context);
    const taints = [
      { key: 'cni.istio.io/not-ready', effect: 'NoSchedule' },
      { key: 'dedicated', value: 'x', effect: 'NoSchedule' },
    ];
    for (const name of ['node-t', 'node-u']) {
      await api.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { taints } });
    }
    const pod = { namespace: MESH_NAMESPACE, account: 'ambit-agent', node: 'node-t', ip: '192.0.2.9' };
    await createPod(api, { ...pod, name: 'agent-t' });
    await eventually(
      'the taint is gone',
      async () => {
        // The API server adds one of its own.
        assert.deepEqual(await taintsOf(api, 'node-t'), ['dedicated', 'node.kubernetes.io/not-ready']);
      },
      15_000,
    );
    assert.ok((await taintsOf(api, 'node-u')).includes('cni.istio.io/not-ready'));
  });

  test('makes the class of waypoints and accepts it; gives the webhook its roots', async (context) => {
    await serving(context);
    await eventually(
      'the class is accepted',
      async () => {
        const found = await api.call('GET', '/apis/gateway.networking.k8s.io/v1/gatewayclasses/istio-waypoint');
        assert.ok(conditionTypes(found).includes('Accepted'));
      },
      15_000,
    );
    const roots = await distributedRoots(api);
    await eventually(
      'the webhook has the roots',
      async () => {
        const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ambit-validation';
        const bundle = valueAt(await api.call('GET', path), 'webhooks', 0, 'clientConfig', 'caBundle');
        assert.equal(Buffer.from(String(bundle), 'base64').toString(), roots);
      },
      15_000,
    );
  });

  test('names what it waits for while the API server is away, and needs no restart when it is back', async (context) => {
    const replica = await ControlReplica.start(context, api, { name: 'late', chart });
    await api.stopServer();
    await eventually(
      'readiness names the API server',
      async () => assert.match((await replica.status('/healthz/ready')).text, /waiting for .*(authority|source) \(/),
      15_000,
    );
    await api.startServer();
    await replica.ready();
  });

  test('is small while nothing happens', async (context) => {
    const replica = await serving(context);
    await distributedRoots(api);
    const status = readFileSync(`/proc/${replica.process.pid}/status`, 'utf8');
    const bytes = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
    context.diagnostic(`resident memory ${(bytes / 1024 / 1024).toFixed(1)} MiB`);
    assert.ok(bytes > 0 && bytes <= MAX_IDLE_BYTES, `${bytes / 1024 / 1024} MiB`);
  });
});

async function taintsOf(api: KubeApi, node: string): Promise<string[]> {
  const taints = valueAt(await api.call('GET', `/api/v1/nodes/${node}`), 'spec', 'taints');
  return (Array.isArray(taints) ? taints : []).map((taint) => textAt(taint, 'key')).sort();
}

function addressOf(entry: unknown): string {
  return String(valueAt(entry, 'status', 'addresses', 0, 'value') ?? '');
}

function conditionTypes(object: unknown): string[] {
  const conditions = valueAt(object, 'status', 'conditions');
  return Array.isArray(conditions) ? conditions.map((condition) => textAt(condition, 'type')) : [];
}

/** Reads responses until one has such a resource. */
async function sees(stream: RawXdsStream, wanted: (resource: RawResource) => boolean): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (performance.now() < deadline) {
    const response = await stream.nextAcknowledged(15_000);
    if (response.resources.some(wanted)) return;
  }
  throw new Error('the resource did not come');
}
