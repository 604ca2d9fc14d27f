import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { TestDataplane } from '../support/dataplane.ts';
import { eventually } from '../support/eventually.ts';
import { TestNetwork } from '../support/netns.ts';
import { readToEnd } from '../support/socket-exchange.ts';

/** Three quarters of it are 60 connections of two descriptors. */
const LIMIT = 160;

/** The data plane of a process that may open `LIMIT` files; the test itself needs more for both ends of everything. */
async function startWithSmallLimit(): Promise<TestDataplane> {
  const setLimit = (limit: string) => execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${limit}:`]);
  const usual = execFileSync('prlimit', ['--pid', String(process.pid), '--nofile', '--noheadings', '--output=SOFT']);
  setLimit(String(LIMIT));
  try {
    return await TestDataplane.start({ node: 'node1', workers: 1 });
  } finally {
    setLimit(String(usual).trim());
  }
}

test('a pod that floods is refused beyond its share while its neighbour is served, and the count returns to nothing', async () => {
  await using network = TestNetwork.create();
  const node = network.addNode();
  const [greedy, neighbour] = [node.addPod('greedy'), node.addPod('neighbour')];
  const server = network.addNode().addPod('server');
  await using agent = await startWithSmallLimit();
  const workload = (name: string, address: string) =>
    `{ name: ${name}, namespace: default, serviceAccount: ${name}, workloadIps: [${address}], node: node1, services: {} }`;
  agent.configure(`workloads: [${workload('greedy', greedy.address)}, ${workload('neighbour', neighbour.address)}]`);
  const { uid } = await agent.enrol(greedy);
  await agent.enrol(neighbour);
  await (await server.process()).listen(8080, 'double');
  const application = await greedy.process();
  const held: Socket[] = [];
  for (let count = 0; count < 60; count++) {
    const socket = await application.connect(server.address, 8080);
    socket.on('error', () => {});
    held.push(socket);
  }
  await eventually('all connections are open', async () => assert.equal(await agent.gauge('ambit_worker_seats'), 60));

  for (let count = 0; count < 20; count++) assert.equal(await application.attempt(server.address, 8080), 'ECONNRESET');
  assert.deepEqual(await agent.refusals(), { FAIR_SHARE: 20 });
  const lines = agent.logLines().filter((line) => line.reason === 'FAIR_SHARE');
  assert.ok(lines.length < 20, `${lines.length} lines`);

  const socket = await (await neighbour.process()).connect(server.address, 8080);
  socket.end('x');
  assert.equal(String(await readToEnd(socket)), 'xx');

  // Ended by the client, by a reset, and by the removal of the pod: each gives its seat back.
  for (const [index, connection] of held.entries()) {
    if (index < 20) connection.destroy();
    else if (index < 40) connection.resetAndDestroy();
  }
  await eventually('the seats are free', async () => assert.equal(await agent.gauge('ambit_worker_seats'), 20));
  await agent.dataplane.removePod(uid);
  await eventually('no seat is taken', async () => assert.equal(await agent.gauge('ambit_worker_seats'), 0));
  for (const connection of held) connection.destroy();
});
