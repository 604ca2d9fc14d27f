/**
 * Pods come into the mesh and leave it while they work: by labels of their namespace and their own, when they start, and
 * not at all where they are excluded. A load that counts every failure runs through it.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ENROLLED_CONDITION, ENROLMENT_EVENT, REDIRECTION_ANNOTATION } from '../../core/enrolment/redirection.ts';
import { type Bed, bedObstacle } from '../support/cluster.ts';
import { echo, Load } from '../support/cluster-load.ts';
import { ClusterMesh, MESH_NAMESPACE, MODE_LABEL } from '../support/cluster-mesh.ts';
import { APP_IMAGE, namespace, pod } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { assertUnreadable, WireCapture } from '../support/wire-capture.ts';

const LONG_MS = 60_000;
const SHOP = 'shop';
/** A pod that leaves keeps its listeners for ten seconds at least. */
const LEFT_MS = 60_000;

describe('pods of the mesh', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;
  let bed: Bed;
  let load: Load;
  /** Of every pod before it was in the mesh. */
  const networks = new Map<string, string>();

  before(async () => {
    mesh = await ClusterMesh.open();
    bed = mesh.bed;
    await Promise.all([mesh.install(), startPods()]);
    load = await Load.start(bed, { namespace: SHOP, name: 'load', node: 'node1', targets: ['near', 'far'] });
    for (const name of ['near', 'far', 'load']) networks.set(name, await networkOf(name));
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
  });

  test('a namespace that is labelled under load brings its running pods in, and no connection is refused or cut', async (context) => {
    const startedMs = Date.now();
    await mesh.label(SHOP, 'ambient');
    await enrolled('near', 'far', 'load');
    context.diagnostic(`label to the last annotation seen: ${Date.now() - startedMs} ms`);
    await load.goesOn(Date.now());
    const report = await load.since(startedMs);
    context.diagnostic(JSON.stringify(report));
    assert.deepEqual(report.bad, {});
    for (const name of ['near', 'far', 'load']) {
      const condition = await conditionOf(name);
      assert.equal(textAt(condition, 'status'), 'True', JSON.stringify(condition));
      await eventually('an event tells it', async () => {
        const reasons = await bed.kubectl([
          ...['get', 'events', '-n', SHOP, '--field-selector', `involvedObject.name=${name}`],
          ...['-o', 'jsonpath={.items[*].reason}'],
        ]);
        assert.ok(reasons.includes(ENROLMENT_EVENT), reasons);
      });
    }
  });

  test('what they send to each other is encrypted between the nodes', async () => {
    const secret = 'a-secret-on-a-new-connection';
    await using wire = await WireCapture.start(bed, 'node2', secret);
    const address = await addressOf('far');
    for (const target of ['far', `${address}:8080`]) {
      assert.equal(await bed.podExec(SHOP, 'load', ['curl', '-sfm5', `http://${target}/${secret}`]), `/${secret}`);
    }
    await load.goesOn(Date.now());
    await assertUnreadable(wire);
  });

  test('a pod that starts is in the mesh with its first packet', async () => {
    const secret = 'the-first-words-of-a-pod';
    await using wire = await WireCapture.start(bed, 'node2', secret);
    const command = [
      'sh',
      '-c',
      `curl -sfm5 http://${await addressOf('far')}:8080/${secret} && echo && exec sleep infinity`,
    ];
    await bed.apply(
      pod({
        name: 'hasty',
        namespace: SHOP,
        podSpec: { nodeName: 'node1' },
        container: { command, readinessProbe: null },
      }),
    );
    await eventually(
      'its first call was answered',
      async () => assert.equal(await bed.kubectl(['logs', '-n', SHOP, 'hasty']), `/${secret}\n`),
      LONG_MS,
    );
    await assertUnreadable(wire);
    await enrolled('hasty');
    await bed.kubectl(['delete', 'pod', '-n', SHOP, 'hasty', '--now', '--timeout=30s']);
  });

  test('a job of the mesh does its work and ends', async () => {
    const job = {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'errand', namespace: SHOP },
      spec: {
        template: {
          spec: {
            restartPolicy: 'Never',
            containers: [
              {
                name: 'app',
                image: APP_IMAGE,
                imagePullPolicy: 'Never',
                command: ['curl', '-sfm5', 'http://far/errand'],
              },
            ],
          },
        },
      },
    };
    await bed.apply(job);
    await bed.waitFor(SHOP, 'job/errand', 'condition=Complete');
    await bed.kubectl(['delete', 'job', '-n', SHOP, 'errand', '--timeout=30s']);
  });

  test('a namespace that loses its label under load lets its pods go: nothing is cut, nothing stalls, nothing is left', async (context) => {
    const captured = await Load.start(bed, {
      namespace: SHOP,
      name: 'captured',
      node: 'node1',
      targets: ['near', 'far'],
    });
    const startedMs = Date.now();
    await mesh.label(SHOP, undefined);
    await Promise.all(['near', 'far', 'load', 'captured'].map(outside));
    context.diagnostic(`label gone to the last annotation gone: ${Date.now() - startedMs} ms`);
    await captured.goesOn(Date.now());
    // Longer than the listeners stay at least.
    await eventually(
      'pods that carry nothing were let go',
      async () => assert.ok(Date.now() - startedMs > 13_000),
      20_000,
    );
    for (const one of [load, captured]) {
      const report = await one.since(startedMs);
      context.diagnostic(JSON.stringify(report));
      assert.deepEqual(report.bad, {});
    }
    await bed.kubectl(['delete', 'pod', '-n', SHOP, 'captured', '--now', '--timeout=30s']);
    const deletedMs = Date.now();
    for (const [name, network] of networks) {
      try {
        await eventually(`${name} is as before`, async () => assert.equal(await networkOf(name), network), LEFT_MS);
      } finally {
        const node = name === 'far' ? 'node2' : 'node1';
        context.diagnostic(`${name}: ${Date.now() - deletedMs} ms; ${node} carries ${await mesh.connectionsOn(node)}`);
      }
    }
  });

  test('labels that come, go and come again end with captured pods and one set of rules', async () => {
    const startedMs = Date.now();
    for (const mode of ['ambient', undefined, 'ambient', undefined, 'ambient']) await mesh.label(SHOP, mode);
    await enrolled('near', 'far', 'load');
    const secret = 'after-many-labels';
    await using wire = await WireCapture.start(bed, 'node2', secret);
    await bed.podExec(SHOP, 'load', ['curl', '-sfm5', `http://far/${secret}`]);
    await assertUnreadable(wire);
    for (const name of networks.keys()) {
      const tables = (await networkOf(name)).match(/^table .*ambit/gm);
      assert.deepEqual(tables?.length, 1, String(tables));
    }
    assert.deepEqual((await load.since(startedMs)).bad, {});
  });

  test('a label of a pod decides over that of its namespace, both ways', async () => {
    await mesh.labelPod(SHOP, 'near', 'none');
    await outside('near');
    await enrolled('far');
    await mesh.label(SHOP, undefined);
    await mesh.labelPod(SHOP, 'far', 'ambient');
    await outside('load');
    await enrolled('far');
    await mesh.labelPod(SHOP, 'far', undefined);
    await mesh.labelPod(SHOP, 'near', undefined);
    await outside('far');
  });

  test('a pod in the network of its node is left alone and says why', async () => {
    const host = { hostNetwork: true, nodeName: 'node1' };
    const container = { command: ['sleep', 'infinity'], readinessProbe: null };
    await bed.apply(
      pod({ name: 'host', namespace: SHOP, labels: { [MODE_LABEL]: 'ambient' }, podSpec: host, container }),
    );
    await bed.waitFor(SHOP, 'pod/host', 'condition=Ready');
    await eventually('it says why', async () => {
      assert.match(textAt(await conditionOf('host'), 'message'), /network of its node/);
    });
    assert.equal(await redirectionOf('host'), '');
    await bed.kubectl(['delete', 'pod', '-n', SHOP, 'host', '--now', '--timeout=30s']);
  });

  test('pods of an excluded namespace are never captured, also not by an agent that starts', async () => {
    await mesh.label('kube-system', 'ambient');
    try {
      await bed.kubectl(['rollout', 'restart', '-n', 'kube-system', 'deploy/coredns']);
      await bed.waitForRollout('kube-system', 'deploy/coredns');
      for (const node of await bed.nodes()) await mesh.killAgent(node, 'process');
      await bed.kubectl(['rollout', 'restart', '-n', MESH_NAMESPACE, 'ds/ambit-agent']);
      await bed.waitForRollout(MESH_NAMESPACE, 'ds/ambit-agent');
      await mesh.label(SHOP, 'ambient');
      await enrolled('near', 'far', 'load');
      const dns = await bed.pods('kube-system', 'k8s-app=kube-dns');
      assert.equal(dns.length, 2);
      for (const item of dns) {
        assert.equal(textAt(item, 'metadata', 'annotations', REDIRECTION_ANNOTATION), '');
        const network = await mesh.podNetwork(textAt(item, 'spec', 'nodeName'), textAt(item, 'status', 'podIP'));
        assert.doesNotMatch(network, /ambit/);
      }
    } finally {
      await mesh.label('kube-system', undefined);
    }
  });

  async function startPods(): Promise<void> {
    await bed.apply(
      namespace(SHOP),
      ...echo({ namespace: SHOP, name: 'near', node: 'node1' }),
      ...echo({ namespace: SHOP, name: 'far', node: 'node2' }),
    );
    for (const name of ['near', 'far']) await bed.waitFor(SHOP, `pod/${name}`, 'condition=Ready');
  }

  async function enrolled(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await eventually(`${name} is in`, async () => assert.equal(await redirectionOf(name), 'enabled'), LONG_MS);
    }
  }

  async function outside(name: string): Promise<void> {
    await eventually(`${name} is out`, async () => assert.equal(await redirectionOf(name), ''), LONG_MS);
  }

  async function redirectionOf(name: string): Promise<string> {
    return textAt(await show(name), 'metadata', 'annotations', REDIRECTION_ANNOTATION);
  }

  async function conditionOf(name: string): Promise<unknown> {
    const conditions = valueAt(await show(name), 'status', 'conditions');
    assert.ok(Array.isArray(conditions));
    return conditions.find((condition: unknown) => textAt(condition, 'type') === ENROLLED_CONDITION);
  }

  async function addressOf(name: string): Promise<string> {
    return textAt(await show(name), 'status', 'podIP');
  }

  async function networkOf(name: string): Promise<string> {
    const item = await show(name);
    return await mesh.podNetwork(textAt(item, 'spec', 'nodeName'), textAt(item, 'status', 'podIP'));
  }

  async function show(name: string): Promise<unknown> {
    return JSON.parse(await bed.kubectl(['get', 'pod', '-n', SHOP, name, '-o', 'json']));
  }
});
