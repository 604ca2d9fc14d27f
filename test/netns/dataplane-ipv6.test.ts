import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { awaitEnd, readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

test('every path carries IPv6 with the source address kept', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  const outsider = mesh.network.addNode().addPod('outsider');
  const remote = await (await mesh.server.process()).listen(8080, 'double', '::');
  const local = await (await mesh.neighbour.process()).listen(8080, 'double', '::');
  const calls = [
    { from: mesh.client, to: mesh.server, path: 'hbone', server: remote, lines: 2 },
    { from: mesh.client, to: mesh.neighbour, path: 'same-node', server: local, lines: 2 },
    { from: outsider, to: mesh.server, path: 'plaintext', server: remote, lines: 1 },
  ];
  for (const { from, to, path, server, lines } of calls) {
    const socket = await (await from.process()).connect(to.address6, 8080);
    socket.end('hello world');
    assert.equal(String(await readToEnd(socket)), 'hello worldhello world', path);
    assert.equal(server.clients.at(-1), from.address6, path);
    const found = await eventually(`records of ${path}`, () => {
      const both = [...near.logLines(), ...far.logLines()].filter((line) => line.path === path);
      assert.equal(both.length, lines);
      return both;
    });
    for (const line of found) assert.match(String(line['src.addr']), /^\[fd77:/);
  }
});

test('a reset crosses the tunnel over IPv6 as well', async () => {
  const { mesh } = await TwoNodes.start();
  await using _ = mesh;
  const listening = await (await mesh.server.process()).listen(8080, 'hand-over', '::');
  const kept = await (await mesh.client.process()).connect(mesh.server.address6, 8080);
  const broken = await listening.nextSocket();
  broken.resetAndDestroy();
  assert.equal(await awaitEnd(kept), 'ECONNRESET');
});
