/** One agent follows another on a node: no connection is refused, none is cut, and a failed hand-over changes nothing. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { HandoverServer } from '../../agent/handover/predecessor.ts';
import { Predecessor } from '../../agent/handover/successor.ts';
import { HANDOVER_SOCKET_NAME } from '../../agent/handover/wire.ts';
import { discardDescriptors } from '../../reactor/unix-socket.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork, type TestPod } from '../support/netns.ts';
import type { PodProcess } from '../support/pod-process.ts';
import { readToEnd } from '../support/socket-exchange.ts';

function mesh(client: TestPod, server: TestPod): string {
  return `
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: {} }
`;
}

interface Giving {
  readonly server: HandoverServer;
  readonly events: string[];
}

/** Serves hand-overs of a data plane as an agent does. */
async function offer(runDirectory: string, agent: TestDataplane): Promise<Giving> {
  const events: string[] = [];
  const server = await HandoverServer.open(runDirectory, {
    lend: () => {
      events.push('lend');
      return agent.dataplane.lendListeners();
    },
    keep: async () => {
      events.push('keep');
      agent.dataplane.keepListeners();
    },
    retire: () => {
      events.push('retire');
      agent.dataplane.retire();
    },
  });
  return { server, events };
}

function runDirectory(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-handover-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

async function exchange(client: PodProcess, address: string): Promise<string> {
  const socket = await client.connect(address, 8080);
  socket.end('hi');
  return String(await readToEnd(socket));
}

for (const [before, after] of [
  [2, 2],
  [1, 3],
  [3, 1],
] as const) {
  test(`a successor with ${after} workers follows one with ${before}: nothing is refused, nothing is cut`, async (context) => {
    const folder = runDirectory(context);
    await using network = TestNetwork.create();
    const node = network.addNode();
    const [client, server] = [node.addPod('client'), node.addPod('server')];
    await using old = await TestDataplane.start({ node: 'node1', workers: before });
    old.configure(mesh(client, server));
    await old.enrol(client);
    await old.enrol(server);
    const echo = await server.process();
    await echo.listen(8080, 'double');
    const caller = await client.process();
    const living = await caller.connect(server.address, 8080);
    living.write('long ');
    const giving = await offer(folder, old);
    await using young = await TestDataplane.start({ node: 'node1', workers: after });
    young.configure(mesh(client, server));

    const answers: string[] = [];
    const stop = new AbortController();
    context.after(() => stop.abort());
    const load = (async () => {
      while (!stop.signal.aborted) answers.push(await exchange(caller, server.address));
    })();
    await eventually('the load runs', () => assert.ok(answers.length > 5));

    using predecessor = await Predecessor.find(folder);
    assert.ok(predecessor !== undefined);
    assert.ok(predecessor.isAlive());
    young.dataplane.inherit(await predecessor.takeOver());
    // While nobody accepts, connections wait in the queue of the kernel.
    const early = exchange(caller, server.address);
    await young.enrol(client);
    await young.enrol(server);
    young.dataplane.endInheritance();
    assert.deepEqual(giving.events, ['lend']);
    await predecessor.confirm();
    assert.equal(await early, 'hihi');
    await eventually('the predecessor has retired', () => assert.deepEqual(giving.events, ['lend', 'retire']));
    await giving.server.close();

    const reached = answers.length;
    await eventually('the load goes on', () => assert.ok(answers.length > reached + 5));
    stop.abort();
    await load;
    assert.deepEqual(new Set(answers), new Set(['hihi']));
    await eventually('the successor carries new connections', () => assert.ok(young.logLines().length > 0));

    living.end('lived');
    assert.equal(String(await readToEnd(living)), 'long long livedlived');
    assert.deepEqual(await old.dataplane.drain(5000), { ended: 0, cut: 0 });
    const carried = old.logLines().filter((line) => line.direction === 'outbound').length;
    await old.dataplane.stop();
    assert.equal(await exchange(caller, server.address), 'hihi');
    assert.equal(old.logLines().filter((line) => line.direction === 'outbound').length, carried);
    assert.deepEqual(await young.refusals(), {});
  });
}

test('a successor that disappears in the middle leaves the predecessor in charge', async (context) => {
  const folder = runDirectory(context);
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using old = await TestDataplane.start({ node: 'node1' });
  old.configure(mesh(client, server));
  await old.enrol(client);
  await old.enrol(server);
  await (await server.process()).listen(8080, 'double');
  const caller = await client.process();
  const giving = await offer(folder, old);
  const stranger = connect(join(folder, HANDOVER_SOCKET_NAME));
  stranger.on('error', () => undefined);
  stranger.write('{"kind":"takeOver","version":1}\n');
  await eventually('the listeners are lent', () => assert.deepEqual(giving.events, ['lend']));
  const waiting = exchange(caller, server.address);
  stranger.destroy();
  await eventually('they are kept', () => assert.deepEqual(giving.events, ['lend', 'keep']));
  assert.equal(await waiting, 'hihi');
  await giving.server.close();
});

test('a successor that fails after it was lent the listeners leaves the predecessor in charge', async (context) => {
  const folder = runDirectory(context);
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using old = await TestDataplane.start({ node: 'node1' });
  old.configure(mesh(client, server));
  await old.enrol(client);
  await old.enrol(server);
  await (await server.process()).listen(8080, 'double');
  const caller = await client.process();
  const giving = await offer(folder, old);
  {
    using predecessor = await Predecessor.find(folder);
    const listeners = (await predecessor?.takeOver()) ?? [];
    assert.ok(listeners.length > 0);
    // It could not enrol the pods, for example, and ends.
    discardDescriptors(listeners.map(({ descriptor }) => descriptor));
  }
  await eventually('they are kept', () => assert.deepEqual(giving.events, ['lend', 'keep']));
  assert.equal(await exchange(caller, server.address), 'hihi');
  await giving.server.close();
});

test('of several successors the first that is ready follows; the others are in nobody’s way', async (context) => {
  const folder = runDirectory(context);
  await using old = await TestDataplane.start({ node: 'node1', workers: 1 });
  const giving = await offer(folder, old);
  using never = await Predecessor.find(folder);
  using first = await Predecessor.find(folder);
  using second = await Predecessor.find(folder);
  assert.ok(first !== undefined && second !== undefined && never !== undefined);
  assert.deepEqual(await first.takeOver(), []);
  await assert.rejects(second.takeOver(), /another successor is being served/);
  assert.ok(never.isAlive());
  await first.confirm();
  await eventually('it has retired', () => assert.deepEqual(giving.events, ['lend', 'retire']));
  await assert.rejects(never.takeOver(), /followed already/);
  await giving.server.close();
});

for (const [what, words, answer] of [
  ['another version', '{"kind":"takeOver","version":99}\n', /only version 1/],
  ['nonsense', 'hello\n', /^$/],
  ['taken before anything was given', '{"kind":"taken"}\n', /only version 1/],
] as const) {
  test(`a successor that says ${what} is refused and nothing changes`, async (context) => {
    const folder = runDirectory(context);
    await using old = await TestDataplane.start({ node: 'node1', workers: 1 });
    const giving = await offer(folder, old);
    const stranger = connect(join(folder, HANDOVER_SOCKET_NAME));
    stranger.write(words);
    assert.match(String(await readToEnd(stranger)), answer);
    assert.deepEqual(giving.events, []);
    await giving.server.close();
  });
}

test('without a predecessor there is nothing to take over, and a predecessor that ends is noticed', async (context) => {
  const folder = runDirectory(context);
  assert.equal(await Predecessor.find(folder), undefined);
  await using old = await TestDataplane.start({ node: 'node1', workers: 1 });
  const giving = await offer(folder, old);
  using predecessor = await Predecessor.find(folder);
  assert.equal(predecessor?.isAlive(), true);
  const closed = giving.server.close();
  await eventually('its end is seen', () => assert.equal(predecessor?.isAlive(), false));
  await closed;
});
