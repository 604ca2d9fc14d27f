/**
 * An agent is followed by another, crashes, is killed with its container, is deleted: what that costs the pods of its node,
 * and that nothing of theirs is ever seen in plain text.
 */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { CUT_EVENT } from '../../agent/cut-report.ts';
import { type Bed, bedObstacle } from '../support/cluster.ts';
import { echo, failuresOf, Load, type LoadReport, MARKER } from '../support/cluster-load.ts';
import { ClusterMesh, MESH_NAMESPACE, MODE_LABEL } from '../support/cluster-mesh.ts';
import { namespace, pod } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { assertUnreadable, WireCapture } from '../support/wire-capture.ts';

const SHOP = 'shop';
const DAEMON_SET = 'ds/ambit-agent';
/** Of the agents; five seconds of it are for their end. */
const GRACE_SECONDS = 16;
const GONE_MS = 90_000;
/** Without an agent connections are refused or reset at once; they neither hang nor go around the mesh. */
const FAILS_CLOSED = /^(new|keep|long) \w+ (idle-|broken-)?(ECONNREFUSED|ECONNRESET|EPIPE|EOF|socket hang up)$/;

describe('agents of a node', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;
  let bed: Bed;
  let load: Load;

  before(async () => {
    mesh = await ClusterMesh.open();
    bed = mesh.bed;
    await mesh.install('install', `ambit-agent.terminationGracePeriodSeconds=${GRACE_SECONDS}`);
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

  for (const time of ['the first', 'the second'] as const) {
    test(`${time} rollout under load refuses nothing; what outlives the grace period is ended and told`, async (context) => {
      await using wire = await WireCapture.start(bed, 'node2', MARKER);
      const stream = busyStream();
      const told = new Set(await eventsOf('Node', 'node1'));
      const startedMs = Date.now();
      await bed.kubectl(['rollout', 'restart', '-n', MESH_NAMESPACE, DAEMON_SET]);
      await bed.waitForRollout(MESH_NAMESPACE, DAEMON_SET);
      context.diagnostic(`rollout: ${Date.now() - startedMs} ms`);
      await agentsSettled();
      const report = await settledReport(startedMs);
      tell(context, report);
      assert.deepEqual({ ...failuresOf(report, 'new'), ...failuresOf(report, 'keep') }, {});
      const livedMs = Number(await stream);
      context.diagnostic(`a stream that is never idle lived ${livedMs} ms`);
      assert.ok(livedMs > 5_000, `${livedMs} ms`);
      const events = (await eventsOf('Node', 'node1')).filter((text) => !told.has(text));
      context.diagnostic(`Events on node1: ${events.join('; ')}`);
      assert.match(events[0] ?? '', /^[1-9]\d* connections did not end by themselves within the 11 s/);
      await assertUnreadable(wire);
      await assertOneSetOfRules();
    });
  }

  test('a rollout whose agents never become ready leaves the old ones serving', async (context) => {
    const startedMs = Date.now();
    await bed.kubectl(['set', 'env', '-n', MESH_NAMESPACE, DAEMON_SET, 'XDS_ADDRESS=nobody.invalid:15012']);
    await eventually(
      'a new agent waits',
      async () => assert.ok((await mesh.agents()).some(({ ready, deleting }) => !ready && !deleting)),
      GONE_MS,
    );
    await bed.apply(pod({ name: 'meanwhile', namespace: SHOP, podSpec: { nodeName: 'node1' } }));
    await bed.apply(pod({ name: 'meanwhile2', namespace: SHOP, podSpec: { nodeName: 'node2' } }));
    for (const name of ['meanwhile', 'meanwhile2']) await bed.waitFor(SHOP, `pod/${name}`, 'condition=Ready');
    await bed.kubectl(['rollout', 'undo', '-n', MESH_NAMESPACE, DAEMON_SET]);
    await bed.waitForRollout(MESH_NAMESPACE, DAEMON_SET);
    await agentsSettled();
    const report = await settledReport(startedMs);
    tell(context, report);
    assert.deepEqual({ ...failuresOf(report, 'new'), ...failuresOf(report, 'keep') }, {});
    await assertOneSetOfRules();
    await bed.kubectl(['delete', 'pod', '-n', SHOP, 'meanwhile', 'meanwhile2', '--now', '--timeout=30s']);
  });

  test('an agent that is killed is back at once, also the second time, and nothing is seen in plain text', async (context) => {
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    const before = await mesh.agentOf('node1');
    for (const time of ['first', 'second']) {
      const startedMs = Date.now();
      await mesh.killAgent('node1', 'process');
      const report = await settledReport(startedMs);
      context.diagnostic(`${time} kill`);
      tell(context, report);
      for (const failure of Object.keys(report.bad)) assert.match(failure, FAILS_CLOSED);
    }
    await eventually('it is ready again, in the same container', async () => {
      assert.deepEqual(await mesh.agentOf('node1'), before);
    });
    await assertUnreadable(wire);
    await assertOneSetOfRules();
  });

  test('a container that is killed, as for lack of memory, fails closed and comes back', async (context) => {
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    const before = await mesh.agentOf('node1');
    const startedMs = Date.now();
    await mesh.killAgent('node1', 'container');
    await eventually(
      'it was started again',
      async () => {
        const { name, restarts, ready } = await mesh.agentOf('node1');
        assert.deepEqual([name, restarts, ready], [before.name, before.restarts + 1, true]);
      },
      GONE_MS,
    );
    const report = await settledReport(startedMs);
    tell(context, report);
    for (const failure of Object.keys(report.bad)) assert.match(failure, FAILS_CLOSED);
    await assertUnreadable(wire);
    await assertOneSetOfRules();
  });

  test('an agent whose pod is deleted serves until its time is over, and is replaced', async (context) => {
    await using wire = await WireCapture.start(bed, 'node2', MARKER);
    const before = await mesh.agentOf('node1');
    const startedMs = Date.now();
    await bed.kubectl(['delete', 'pod', '-n', MESH_NAMESPACE, before.name, '--wait=false']);
    await eventually(
      'another one serves',
      async () => {
        const agent = await mesh.agentOf('node1');
        assert.notEqual(agent.name, before.name);
        assert.ok(agent.ready);
      },
      GONE_MS,
    );
    const report = await settledReport(startedMs);
    tell(context, report);
    assert.deepEqual({ ...failuresOf(report, 'new'), ...failuresOf(report, 'keep') }, {});
    await assertUnreadable(wire);
    await assertOneSetOfRules();
  });

  /** What happened since, when everything works again. */
  async function settledReport(sinceMs: number): Promise<LoadReport> {
    await load.goesOn(Date.now());
    return await load.since(sinceMs);
  }

  function tell(context: TestContext, report: LoadReport): void {
    context.diagnostic(JSON.stringify(report));
  }

  async function agentsSettled(): Promise<void> {
    await eventually(
      'the old agents are gone',
      async () => {
        const agents = await mesh.agents();
        assert.equal(agents.length, 2);
        assert.ok(agents.every(({ ready }) => ready));
      },
      GONE_MS,
    );
  }

  /** A stream from `load` to `near` on which something is always under way; how long it lived, ms. */
  function busyStream(): Promise<string> {
    const program = `
      const socket = require('node:net').connect({ host: 'near', port: 9090 });
      const started = Date.now();
      socket.on('error', () => {}).on('close', () => { console.log(Date.now() - started); process.exit(); });
      setInterval(() => socket.write('x'.repeat(1000)), 3);
      socket.resume();`;
    return bed.podExec(SHOP, 'load', ['node', '-e', program], { timeoutMs: 120_000 });
  }

  async function eventsOf(kind: string, name: string): Promise<string[]> {
    const selector = `involvedObject.kind=${kind},involvedObject.name=${name},reason=${CUT_EVENT}`;
    const text = await bed.kubectl(['get', 'events', '-A', '--field-selector', selector, '-o', 'json']);
    const items = valueAt(JSON.parse(text), 'items');
    return Array.isArray(items)
      ? items.map((item) => `${textAt(item, 'message')} (${textAt(item, 'metadata', 'name')})`)
      : [];
  }

  async function assertOneSetOfRules(): Promise<void> {
    for (const name of ['near', 'far', 'load']) {
      const item: unknown = JSON.parse(await bed.kubectl(['get', 'pod', '-n', SHOP, name, '-o', 'json']));
      const network = await mesh.podNetwork(textAt(item, 'spec', 'nodeName'), textAt(item, 'status', 'podIP'));
      assert.equal(network.match(/^table .*ambit/gm)?.length, 1, network);
      assert.equal(network.match(/fwmark .* lookup 100/g)?.length, 2, network);
    }
  }
});
