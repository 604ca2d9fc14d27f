import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HBONE_LIMITS } from '../../hbone/limits.ts';
import { eventually } from '../support/eventually.ts';
import { readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

test('row 12: strangers that hold every handshake of a worker touch no plaintext, and tunnels wait until they let go', async () => {
  const { mesh, far } = await TwoNodes.start({ workers: 1 });
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'double');
  const silent = await Promise.all(
    ['first', 'second'].map(async (label) => {
      const stranger = await mesh.network.addNode().addPod(label).process();
      const each = Array.from({ length: HBONE_LIMITS.maxHandshakesPerAddress }, () =>
        stranger.connect(mesh.server.address, 15008),
      );
      return { stranger, sockets: await Promise.all(each) };
    }),
  );
  await eventually('the bound is reached', async () =>
    assert.equal(await far.gauge('ambit_tunnel_handshakes'), HBONE_LIMITS.maxConcurrentHandshakes),
  );
  assert.equal(await far.gauge('ambit_tunnel_accept_pauses'), 1);
  const tunnelled = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  tunnelled.end('waits');
  for (const { stranger } of silent) {
    const plaintext = await stranger.connect(mesh.server.address, 8080);
    plaintext.end('goes through');
    assert.equal(String(await readToEnd(plaintext)), 'goes throughgoes through');
  }
  assert.equal(tunnelled.bytesRead, 0);
  for (const { sockets } of silent) for (const socket of sockets) socket.destroy();
  assert.equal(String(await readToEnd(tunnelled)), 'waitswaits');
  assert.deepEqual(await far.refusals(), { TLS_HANDSHAKE: HBONE_LIMITS.maxConcurrentHandshakes });
});
