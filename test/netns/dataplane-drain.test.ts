/** The end of an agent's grace period: what is idle ends in order, what is busy is cut, and both are told. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork } from '../support/netns.ts';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

const GRACE_MS = 2000;

/** Sends to a server that does not answer before the end. */
async function upload(socket: Socket): Promise<string> {
  const sending = setInterval(() => socket.write('more'), 50);
  try {
    return await awaitEnd(socket, 4 * GRACE_MS);
  } finally {
    clearInterval(sending);
  }
}

async function awaitConnections(agent: TestDataplane, count: number): Promise<void> {
  await eventually(`${count} connections`, async () => {
    assert.equal((await agent.dataplane.connections()).length, count);
  });
}

async function exchange(socket: Socket): Promise<void> {
  socket.write('ping');
  assert.equal(String(await readBytes(socket, 4)), 'ping');
}

for (const side of ['source', 'destination'] as const) {
  test(`the agent of the ${side} lets connections end, ends idle ones in order and cuts busy ones`, async () => {
    const { mesh, near, far } = await TwoNodes.start();
    await using _ = mesh;
    const agent = side === 'source' ? near : far;
    const server = await mesh.server.process();
    await server.listen(8080, 'echo');
    await server.listen(8081, 'hand-over');
    const application = await mesh.client.process();
    const connect = (port = 8080) => application.connect(mesh.server.address, port);
    const [polite, idle, silent, busy] = [await connect(), await connect(), await connect(), await connect(8081)];
    for (const socket of [polite, idle]) await exchange(socket);
    await awaitConnections(agent, 4);
    const drained = agent.dataplane.drain(GRACE_MS);
    const ends = [awaitEnd(idle), awaitEnd(silent), upload(busy)];
    polite.end('last words');
    assert.equal(String(await readToEnd(polite)), 'last words');
    assert.deepEqual(await Promise.all(ends), ['end', 'end', 'ECONNRESET']);
    assert.deepEqual(await drained, { ended: 2, cut: 1 });
    await agent.awaitLines(1, (line) => line.message === 'connection complete' && line.error === undefined);
    await agent.awaitLines(2, (line) => line.reason === 'DRAINED_IDLE');
    await agent.awaitLines(1, (line) => line.reason === 'DRAINED');
  });
}

test('a connection that is used now and then is ended in a pause, not in the middle of a request', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  const socket = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  await exchange(socket);
  let asked = 0;
  let answered = 0;
  socket.on('data', () => answered++);
  const ask = (): void => {
    if (socket.readableEnded || socket.destroyed) return;
    asked++;
    socket.write('?');
  };
  const asking = setInterval(ask, 100);
  const ended = awaitEnd(socket);
  try {
    assert.deepEqual(await near.dataplane.drain(GRACE_MS), { ended: 1, cut: 0 });
    assert.equal(await ended, 'end');
  } finally {
    clearInterval(asking);
  }
  assert.ok(asked > 5);
  assert.equal(answered, asked);
});

test('a connection that one side has ended is not made to look complete', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  const server = await (await mesh.server.process()).listen(8080, 'hand-over');
  const socket = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  const accepted = await server.nextSocket();
  accepted.end('half');
  assert.equal(String(await readBytes(socket, 4)), 'half');
  const ended = awaitEnd(accepted);
  assert.deepEqual(await near.dataplane.drain(GRACE_MS), { ended: 0, cut: 1 });
  assert.equal(await ended, 'ECONNRESET');
});

test('between pods of one node idle connections end in order as well', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [client, server] = [node.addPod('client'), node.addPod('server')];
  await using agent = await TestDataplane.start({ node: 'node1' });
  agent.configure(`
workloads:
- { name: client, namespace: default, serviceAccount: client, workloadIps: [${client.address}], node: node1, protocol: HBONE, services: {} }
- { name: server, namespace: default, serviceAccount: server, workloadIps: [${server.address}], node: node1, protocol: HBONE, services: {} }
`);
  await agent.enrol(client);
  await agent.enrol(server);
  const application = await server.process();
  await application.listen(8080, 'echo');
  await application.listen(8081, 'hand-over');
  const caller = await client.process();
  const [idle, busy] = [await caller.connect(server.address, 8080), await caller.connect(server.address, 8081)];
  await exchange(idle);
  await awaitConnections(agent, 4);
  const drained = agent.dataplane.drain(GRACE_MS);
  const ends = [awaitEnd(idle), upload(busy)];
  assert.deepEqual(await Promise.all(ends), ['end', 'ECONNRESET']);
  // Both pods have a record of each connection.
  assert.deepEqual(await drained, { ended: 2, cut: 2 });
  await agent.awaitLines(2, (line) => line.reason === 'DRAINED_IDLE');
});
