import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import type { TestDataplane } from '../support/dataplane.ts';
import { readBytes } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

/** All with one worker of the second node: once in 2^15 runs. */
const CONNECTIONS = 16;

/** One number per worker of the node. */
async function perWorker(node: TestDataplane, name: string, labels: Readonly<Record<string, string>> = {}) {
  return (await node.dataplane.collect()).map(({ gauges }) =>
    gauges
      .filter(
        (gauge) => gauge.name === name && Object.entries(labels).every(([key, value]) => gauge.labels[key] === value),
      )
      .reduce((sum, { value }) => sum + value, 0),
  );
}

test('a session resumes whichever worker of the peer it arrives at', async () => {
  // A tunnel of its own for every connection.
  const { mesh, near, far } = await TwoNodes.start({ workers: 2, settings: { poolMaxStreamsPerConnection: 1 } });
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  const application = await mesh.client.process();
  const sockets: Socket[] = [];
  for (let i = 0; i < CONNECTIONS; i++) {
    const socket = await application.connect(mesh.server.address, 8080);
    sockets.push(socket);
    socket.write('x');
    // By then the ticket of this session has come as well.
    assert.equal(String(await readBytes(socket, 1)), 'x');
  }
  const arrived = await perWorker(far, 'ambit_tunnel_sessions', { role: 'server' });
  assert.equal(arrived.length, 2);
  assert.ok(
    arrived.every((sessions) => sessions > 0),
    `sessions by worker of the peer: ${arrived.join(', ')}`,
  );
  // Each worker of the client has a pool of its own, in which only the very first handshake is a full one. Sessions went
  // to both workers of the peer, so one of them resumed with a ticket of the other.
  const dials = await perWorker(near, 'ambit_tunnel_dials');
  assert.equal(
    dials.reduce((sum, count) => sum + count, 0),
    CONNECTIONS,
  );
  assert.deepEqual(
    await perWorker(near, 'ambit_tunnel_resumptions'),
    dials.map((count) => Math.max(0, count - 1)),
  );
  assert.equal(await near.gauge('ambit_tunnel_retries'), 0);
  for (const socket of sockets) socket.destroy();
});
