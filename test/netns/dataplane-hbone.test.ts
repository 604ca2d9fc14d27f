import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';
import { TwoNodes } from '../support/two-nodes.ts';

const IDENTITY = 'spiffe://cluster.local/ns/default/sa/';

test('pods of two nodes talk through a tunnel: bytes, source address, metrics and both records agree', async () => {
  const { mesh, near, far } = await TwoNodes.start();
  await using _ = mesh;
  const echo = await (await mesh.server.process()).listen(8080, 'double');
  const socket = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
  assert.deepEqual(echo.clients, [mesh.client.address]);
  const [outbound] = await near.awaitLines(1, () => true);
  const [inbound] = await far.awaitLines(1, () => true);
  for (const line of [outbound, inbound]) {
    assert.equal(line?.path, 'hbone');
    assert.equal(line?.['src.identity'], `${IDENTITY}client`);
    assert.equal(line?.['dst.identity'], `${IDENTITY}server`);
    assert.equal(line?.['src.workload'], 'client');
    assert.equal(line?.['dst.workload'], 'server');
    assert.equal(line?.['dst.addr'], `${mesh.server.address}:15008`);
    assert.equal(line?.['dst.hbone_addr'], `${mesh.server.address}:8080`);
  }
  assert.deepEqual([outbound?.bytes_sent, outbound?.bytes_recv], [11, 22]);
  assert.deepEqual([inbound?.bytes_sent, inbound?.bytes_recv], [22, 11]);
  const labels = { connection_security_policy: 'mutual_tls', destination_principal: `${IDENTITY}server` } as const;
  const expected = { opened: 1, closed: 1, failed: 0, received: 11, sent: 22 };
  assert.deepEqual(await near.traffic({ reporter: 'source', ...labels }), expected);
  assert.deepEqual(await far.traffic({ reporter: 'destination', ...labels }), expected);
});

test('the wire between the nodes carries nothing but port 15008', async () => {
  const { mesh } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  const [near] = mesh.network.nodes;
  assert.ok(near);
  near.nft(`
table inet watch {
  chain forward {
    type filter hook forward priority 0;
    tcp dport 15008 counter accept comment "tunnel"
    tcp sport 15008 accept
    meta l4proto tcp counter comment "clear"
  }
}`);
  const socket = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  socket.write('secret');
  assert.equal(String(await readBytes(socket, 6)), 'secret');
  const listing = near.exec('nft', 'list', 'table', 'inet', 'watch');
  assert.match(listing, /counter packets 0 bytes 0 comment "clear"/);
  assert.match(listing, /counter packets [1-9][0-9]* bytes [0-9]+ accept comment "tunnel"/);
  socket.destroy();
});

test('a service address is spread over both endpoints', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  const first = await (await mesh.server.process()).listen(8080, 'double');
  const second = await (await mesh.second.process()).listen(8080, 'double');
  const application = await mesh.client.process();
  for (let i = 0; i < 40; i++) {
    const socket = await application.connect('10.96.0.1', 80);
    socket.end('x');
    assert.equal(String(await readToEnd(socket)), 'xx');
  }
  assert.equal(first.clients.length + second.clients.length, 40);
  assert.ok(first.clients.length > 5 && second.clients.length > 5, `${first.clients.length}`);
  const lines = await near.awaitLines(40, (line) => line['dst.service'] === 'web.default.svc.cluster.local');
  assert.equal(lines.length, 40);
  const sums = await near.traffic({ reporter: 'source', destination_service: 'web.default.svc.cluster.local' });
  assert.deepEqual([sums.opened, sums.closed, sums.received, sums.sent], [40, 40, 40, 80]);
});

test('end of file and resets travel in both directions', async () => {
  const { mesh } = await TwoNodes.start();
  await using _ = mesh;
  const listening = await (await mesh.server.process()).listen(8080, 'hand-over');
  const application = await mesh.client.process();

  const near = await application.connect(mesh.server.address, 8080);
  const far = await listening.nextSocket();
  near.end('request');
  assert.equal(String(await readToEnd(far)), 'request');
  far.end('response after the half-close');
  assert.equal(String(await readToEnd(near)), 'response after the half-close');

  const dropped = await application.connect(mesh.server.address, 8080);
  const lost = await listening.nextSocket();
  dropped.resetAndDestroy();
  assert.equal(await awaitEnd(lost), 'ECONNRESET');

  const kept = await application.connect(mesh.server.address, 8080);
  const broken = await listening.nextSocket();
  broken.resetAndDestroy();
  assert.equal(await awaitEnd(kept), 'ECONNRESET');
});

test('a megabyte each way arrives whole while the client reads late', async () => {
  const { mesh, near } = await TwoNodes.start();
  await using _ = mesh;
  await (await mesh.server.process()).listen(8080, 'echo');
  const socket = await (await mesh.client.process()).connect(mesh.server.address, 8080);
  const payload = Buffer.alloc(1 << 20, 'abcdefgh');
  socket.end(payload);
  await once(socket, 'finish');
  const back = await readToEnd(socket);
  assert.ok(back.equals(payload));
  const [line] = await near.awaitLines(1, () => true);
  assert.deepEqual([line?.bytes_sent, line?.bytes_recv], [payload.length, payload.length]);
});
