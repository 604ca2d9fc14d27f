/**
 * Nobody answers: the agent is away, the network configuration of the node is missing or changed by others, the API server
 * or the control plane is gone, nodes lose their power. Pods of the mesh wait or are captured, and everybody else starts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Bed, bedObstacle } from '../support/cluster.ts';
import { echo, Load, MARKER, readLoad } from '../support/cluster-load.ts';
import { ClusterMesh, MESH_NAMESPACE, MODE_LABEL } from '../support/cluster-mesh.ts';
import { namespace, pod } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { assertUnreadable, WireCapture } from '../support/wire-capture.ts';

const SHOP = 'shop';
const DAEMON_SET = 'ds/ambit-agent';
const NET = '/etc/cni/net.d';
const OURS = `${NET}/02-ambit.conflist`;
const BINARY = '/opt/cni/bin/ambit-cni';
/** The keeper looks every ten seconds where it cannot watch. */
const REPAIRED_MS = 40_000;
const BACK_MS = 120_000;

describe('a node on which somebody is missing', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;
  let bed: Bed;
  let load: Load;

  before(async () => {
    mesh = await ClusterMesh.open();
    bed = mesh.bed;
    await mesh.install();
    await bed.apply(
      namespace(SHOP, { [MODE_LABEL]: 'ambient' }),
      ...echo({ namespace: SHOP, name: 'near', node: 'node1' }),
      ...echo({ namespace: SHOP, name: 'far', node: 'node2' }),
    );
    for (const name of ['near', 'far']) await bed.waitFor(SHOP, `pod/${name}`, 'condition=Ready');
    load = await Load.start(bed, { namespace: SHOP, name: 'load', node: 'node1', targets: ['near', 'far'] });
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
  });

  test('without an agent pods of the mesh wait with a reason, excluded ones start, other nodes go on', async () => {
    await withoutAgent('node2', async () => {
      await startOn('node2', 'waiting');
      await bed.apply(pod({ name: 'excluded', namespace: 'kube-system', podSpec: { nodeName: 'node2' } }));
      await bed.waitFor('kube-system', 'pod/excluded', 'condition=Ready');
      await eventually(
        'the plugin says why',
        async () => {
          const text = await bed.kubectl([
            ...['get', 'events', '-n', SHOP, '--field-selector', 'involvedObject.name=waiting'],
            ...['-o', 'jsonpath={.items[*].message}'],
          ]);
          assert.match(
            text,
            /the node agent does not (listen|answer)[\s\S]*the pod waits until the agent of this node runs/,
          );
        },
        BACK_MS,
      );
      assert.match(await bed.nodeExec('node2', ['cat', OURS]), /ambit-cni/);
      const sinceMs = Date.now();
      await eventually('node1 goes on', async () => {
        assert.ok(((await load.since(sinceMs)).ok['new near'] ?? 0) > 5);
      });
      const { bad } = await load.since(sinceMs);
      assert.deepEqual(
        Object.keys(bad).filter((failure) => failure.includes(' near ')),
        [],
      );
    });
    await bed.waitFor(SHOP, 'pod/waiting', 'condition=Ready');
    await load.goesOn(Date.now());
    await remove(SHOP, 'waiting');
    await remove('kube-system', 'excluded');
  });

  test('a configuration or program that somebody changes or removes is put back', async () => {
    const [list, sum] = await Promise.all([
      bed.nodeExec('node2', ['cat', OURS]),
      bed.nodeExec('node2', ['sha256sum', BINARY]),
    ]);
    for (const damage of [
      `rm ${OURS}`,
      `echo '{}' > ${OURS}`,
      `rm ${BINARY}`,
      `echo broken > ${BINARY}.x && mv ${BINARY}.x ${BINARY}`,
    ]) {
      await bed.nodeExec('node2', ['sh', '-c', damage]);
      await eventually(
        `repaired after ${damage}`,
        async () => {
          assert.equal(await bed.nodeExec('node2', ['cat', OURS]), list);
          assert.equal(await bed.nodeExec('node2', ['sha256sum', BINARY]), sum);
        },
        REPAIRED_MS,
      );
    }
  });

  test('the primary network that changes its list is followed', async () => {
    const change = `cd ${NET} && jq '.plugins[0].hairpinMode = false' 10-pods.conflist > .draft && mv .draft 10-pods.conflist`;
    await bed.nodeExec('node2', ['sh', '-c', change]);
    await eventually(
      'ours has the change',
      async () => assert.match(await bed.nodeExec('node2', ['cat', OURS]), /"hairpinMode": false[\s\S]*ambit-cni/),
      REPAIRED_MS,
    );
    await bed.nodeExec('node2', ['sh', '-c', change.replace('false', 'true')]);
    await eventually(
      'and the change back',
      async () => assert.match(await bed.nodeExec('node2', ['cat', OURS]), /"hairpinMode": true[\s\S]*ambit-cni/),
      REPAIRED_MS,
    );
  });

  test('a node without a network configuration has an agent that is not ready, until there is one', async () => {
    await bed.nodeExec('node2', ['sh', '-c', `mv ${NET}/10-pods.conflist /root/ && rm ${OURS}`]);
    try {
      await eventually(
        'the agent is not ready',
        async () => assert.equal((await mesh.agentOf('node2')).ready, false),
        REPAIRED_MS,
      );
    } finally {
      await bed.nodeExec('node2', ['mv', '/root/10-pods.conflist', NET]);
    }
    await eventually('it is ready', async () => assert.ok((await mesh.agentOf('node2')).ready), REPAIRED_MS);
    assert.match(await bed.nodeExec('node2', ['cat', OURS]), /ambit-cni/);
  });

  test('without the API server agents serve, also one that starts again', async (context) => {
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    const sinceMs = Date.now();
    await bed.killApiServer();
    try {
      await mesh.killAgent('node1', 'process');
      const killedMs = Date.now();
      // The API server cannot be asked for the log of the load, its node can.
      await eventually(
        'the agent serves again',
        async () => {
          const log = await bed.nodeExec('node1', ['sh', '-c', `tail -n 20 /var/log/pods/${SHOP}_load_*/app/*.log`]);
          const served = readLoad(log.replaceAll(/^\S+ std\w+ F /gm, ''), killedMs + 500);
          for (const target of ['near', 'far'])
            assert.ok((served.ok[`new ${target}`] ?? 0) > 5, JSON.stringify(served));
        },
        BACK_MS,
      );
    } finally {
      await bed.startNodes();
    }
    context.diagnostic(JSON.stringify(await load.since(sinceMs)));
    await load.goesOn(Date.now());
    await assertUnreadable(wire);
  });

  test('without the control plane agents serve; one that starts then fails closed until it is back', async (context) => {
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    const sinceMs = Date.now();
    await bed.kubectl(['scale', '-n', MESH_NAMESPACE, 'deploy/ambit-control', '--replicas=0']);
    try {
      await eventually(
        'it is gone',
        async () => {
          assert.deepEqual(await bed.pods(MESH_NAMESPACE, 'app=istiod'), []);
        },
        BACK_MS,
      );
      const goneMs = Date.now();
      await load.goesOn(goneMs);
      const report = await load.since(sinceMs);
      context.diagnostic(JSON.stringify(report));
      assert.deepEqual(report.bad, {});
      await mesh.killAgent('node1', 'process');
      // A pod that is none of the mesh's needs no control plane.
      await bed.apply(namespace('plain'), pod({ name: 'plain', namespace: 'plain', podSpec: { nodeName: 'node1' } }));
      await bed.waitFor('plain', 'pod/plain', 'condition=Ready');
    } finally {
      await bed.kubectl(['scale', '-n', MESH_NAMESPACE, 'deploy/ambit-control', '--replicas=1']);
    }
    await load.goesOn(Date.now());
    await assertUnreadable(wire);
    await bed.kubectl(['delete', 'namespace', 'plain', '--timeout=60s']);
  });

  test('nodes that lose their power come back with captured pods: nothing is ever seen in plain text', async () => {
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    await Promise.all(['node1', 'node2'].map((node) => bed.killNode(node)));
    await bed.startNodes();
    const restartedMs = Date.now();
    for (const name of ['near', 'far', 'load']) {
      await eventually(
        `${name} was started again`,
        async () => {
          const item: unknown = JSON.parse(await bed.kubectl(['get', 'pod', '-n', SHOP, name, '-o', 'json']));
          assert.notEqual(valueAt(item, 'status', 'containerStatuses', 0, 'restartCount'), 0);
          assert.equal(valueAt(item, 'status', 'containerStatuses', 0, 'ready'), true);
          const network = await mesh.podNetwork(textAt(item, 'spec', 'nodeName'), textAt(item, 'status', 'podIP'));
          assert.match(network, /table inet ambit/);
        },
        BACK_MS,
      );
    }
    await load.goesOn(restartedMs);
    await bed.waitForRollout(MESH_NAMESPACE, DAEMON_SET);
    await assertUnreadable(wire);
  });

  /** The agent of the node is gone while `work` runs: the image of its successor cannot be had. */
  async function withoutAgent(node: string, work: () => Promise<void>): Promise<void> {
    await bed.kubectl(['set', 'image', '-n', MESH_NAMESPACE, DAEMON_SET, 'istio-proxy=localhost/ambit:nowhere']);
    try {
      const { name, ready } = await mesh.agentOf(node);
      assert.ok(ready);
      await bed.kubectl(['delete', 'pod', '-n', MESH_NAMESPACE, name, '--grace-period=1', '--timeout=60s']);
      await work();
    } finally {
      await bed.kubectl(['rollout', 'undo', '-n', MESH_NAMESPACE, DAEMON_SET]);
      await bed.waitForRollout(MESH_NAMESPACE, DAEMON_SET);
    }
  }

  async function startOn(node: string, name: string): Promise<void> {
    await bed.apply(pod({ name, namespace: SHOP, podSpec: { nodeName: node } }));
  }

  async function remove(within: string, name: string): Promise<void> {
    await bed.kubectl(['delete', 'pod', '-n', within, name, '--now', '--timeout=60s']);
  }
});
