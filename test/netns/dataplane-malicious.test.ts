/**
 * Applications of captured and of foreign pods call the agent's own ports. Each call must end, at once, refused or reset,
 * counted, and must never come out anywhere.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

const PORTS = [15001, 15006, 15008];

test('no call to the ports of the agent gets through, from wherever it comes', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  const outsider = mesh.network.addNode().addPod('outsider');
  for (const port of PORTS) {
    for (const host of ['127.0.0.1', mesh.client.address, mesh.neighbour.address, mesh.server.address]) {
      const ended = await (await mesh.client.process()).attempt(host, port);
      assert.match(ended, /^(ECONNRESET|ECONNREFUSED|end|close)$/, `${host}:${port} from a captured pod: ${ended}`);
    }
    const ended = await (await outsider.process()).attempt(mesh.server.address, port);
    assert.match(ended, /^(ECONNRESET|ECONNREFUSED|end|close)$/, `${port} from outside: ${ended}`);
  }
  for (const agent of [near, far]) {
    const { opened, received } = await agent.traffic({ response_flags: '-' });
    assert.equal(received, 0, `no byte went through (${opened} connections)`);
    assert.equal((await agent.dataplane.connections()).length, 0);
  }
  const refusals = await near.refusals();
  assert.ok((refusals.LOOP ?? 0) >= 2, JSON.stringify(refusals));
  // And the mesh still works.
  await (await mesh.server.process()).listen(8080, 'double');
  const socket = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  socket.end('x');
  assert.equal(String(await readToEnd(socket)), 'xx');
});
