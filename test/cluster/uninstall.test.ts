/**
 * The mesh is taken off a cluster whose namespaces still ask for it, by our own command and by Helm: pods go on in plain
 * text, no connection is cut before its time, and nodes and pods are as before. Then it is installed again.
 */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { REMOVAL_EVENT } from '../../core/enrolment/removal.ts';
import { type Bed, bedObstacle } from '../support/cluster.ts';
import { echo, Load, MARKER } from '../support/cluster-load.ts';
import { ClusterMesh, MESH_NAMESPACE, MODE_LABEL } from '../support/cluster-mesh.ts';
import { namespace, pod } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { assertUnreadable, WireCapture } from '../support/wire-capture.ts';

const SHOP = 'shop';
const GRACE_SECONDS = 16;
const GONE_MS = 90_000;
/** What every client has to expect when a connection ends after the grace period. */
const ENDED = /^(long \w+ broken-(EOF|ECONNRESET|EPIPE)|keep \w+ idle-(ECONNRESET|EPIPE|socket hang up))$/;

describe('a mesh that is taken away while pods are in it', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;
  let bed: Bed;
  const networks = new Map<string, string>();
  const nodes = new Map<string, string>();

  before(async () => {
    mesh = await ClusterMesh.open();
    bed = mesh.bed;
    for (const node of await bed.nodes()) nodes.set(node, await pictureOf(node));
    await bed.apply(
      namespace(SHOP, { [MODE_LABEL]: 'ambient' }),
      ...echo({ namespace: SHOP, name: 'near', node: 'node1' }),
      ...echo({ namespace: SHOP, name: 'far', node: 'node2' }),
      pod({ name: 'caller', namespace: SHOP, podSpec: { nodeName: 'node1' } }),
    );
    for (const name of ['near', 'far', 'caller']) {
      await bed.waitFor(SHOP, `pod/${name}`, 'condition=Ready');
      networks.set(name, await networkOf(name));
    }
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
  });

  test('ambit uninstall lets the pods go on in plain text and proves that nothing is left', async (context) => {
    await install();
    await leaves(context, async () => {
      const said = await mesh.ambit('uninstall', '-y');
      context.diagnostic(said.trim().split('\n').join(' | '));
      for (const node of nodes.keys()) assert.match(said, new RegExp(`√ ${node}  .*plugin, rules and files removed`));
    });
    await eventually('no pod says that it is in the mesh', async () => {
      const text = await bed.kubectl(['get', 'pods', '-n', SHOP, '-o', 'jsonpath={.items[*].metadata.annotations}']);
      assert.doesNotMatch(text, /ambient\.istio\.io/);
    });
    const events: unknown = JSON.parse(
      await bed.kubectl(['get', 'events', '-A', '--field-selector', `reason=${REMOVAL_EVENT}`, '-o', 'json']),
    );
    assert.deepEqual(subjectsOf(events), ['node1', 'node2']);
  });

  // Helm takes the rights of the agents away together with them: their marks on pods stay until the next installation.
  test('helm uninstall alone does the same', async (context) => {
    await install();
    await leaves(context, async () => {
      await bed.helm(['uninstall', 'ambit', '-n', MESH_NAMESPACE, '--wait', '--timeout', '90s'], {
        timeoutMs: 120_000,
      });
    });
  });

  test('and it can be installed again', async () => {
    await install();
    await bed.podExec(SHOP, 'caller', ['curl', '-sfm5', `http://far/${MARKER}`]);
  });

  /** The running pods of the namespace, whose label stands all the time, come in. */
  async function install(): Promise<void> {
    await mesh.install('install', `ambit-agent.terminationGracePeriodSeconds=${GRACE_SECONDS}`);
    await eventually(
      'new connections are encrypted',
      async () => {
        await using wire = await WireCapture.start(bed, 'node2', MARKER);
        await bed.podExec(SHOP, 'caller', ['curl', '-sfm5', `http://far/${MARKER}`]);
        await assertUnreadable(wire);
      },
      GONE_MS,
    );
  }

  /** Runs `remove` under load, and compares with what was there before the mesh. */
  async function leaves(context: TestContext, remove: () => Promise<void>): Promise<void> {
    const name = 'load';
    const load = await Load.start(bed, { namespace: SHOP, name, node: 'node1', targets: ['near', 'far'] });
    const startedMs = Date.now();
    await remove();
    context.diagnostic(`removal: ${Date.now() - startedMs} ms`);
    await eventually('no agent is left', async () => assert.deepEqual(await mesh.agents(), []), GONE_MS);
    const endedMs = Date.now();
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    await load.goesOn(Date.now());
    assert.ok((await wire.finish()).sightings > 0, 'pods talk in plain text now');
    const report = await load.since(startedMs);
    context.diagnostic(JSON.stringify(report));
    for (const failure of Object.keys(report.bad)) assert.match(failure, ENDED);
    // Connections live until the grace period of the agents is nearly over.
    const early = await load.since(startedMs, Math.min(endedMs, startedMs + 5_000));
    assert.deepEqual(early.bad, {});
    for (const [node, picture] of nodes) assert.equal(await pictureOf(node), picture);
    for (const [pod, network] of networks) assert.equal(await networkOf(pod), network);
    await bed.kubectl(['delete', 'pod', '-n', SHOP, name, '--now', '--timeout=30s']);
    // A pod that starts now needs nobody.
    await bed.apply(pod({ name: 'late', namespace: SHOP, podSpec: { nodeName: 'node1' } }));
    await bed.waitFor(SHOP, 'pod/late', 'condition=Ready');
    await bed.kubectl(['delete', 'pod', '-n', SHOP, 'late', '--now', '--timeout=30s']);
  }

  async function networkOf(name: string): Promise<string> {
    const item: unknown = JSON.parse(await bed.kubectl(['get', 'pod', '-n', SHOP, name, '-o', 'json']));
    return await mesh.podNetwork(textAt(item, 'spec', 'nodeName'), textAt(item, 'status', 'podIP'));
  }

  /** Everything on a node that an agent touches; rules of others there come and go with pods. */
  async function pictureOf(node: string): Promise<string> {
    return await bed.nodeExec(node, ['sh', '-c', PICTURE]);
  }
});

const PICTURE = `
ls -l --time-style=+ /etc/cni/net.d /opt/cni/bin
ls -lR /var/run/ambit 2>/dev/null | grep -v "^total"
nft list ruleset | grep -i -A9 ambit
ip rule; ip -6 rule
true
`;

function subjectsOf(events: unknown): string[] {
  const items = valueAt(events, 'items');
  const names = Array.isArray(items) ? items.map((item) => textAt(item, 'involvedObject', 'name')) : [];
  return [...new Set(names)].sort();
}
