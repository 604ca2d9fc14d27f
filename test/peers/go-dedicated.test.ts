import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { AgentProcess } from '../support/agent-process.ts';
import { DedicatedFiles, identityOf } from '../support/dedicated-files.ts';
import { buildGo, startGoPeer } from '../support/go-programs.ts';
import { TestNetwork } from '../support/netns.ts';
import { readBytes, readToEnd } from '../support/socket-exchange.ts';

const program = await buildGo('hbone-peer', './hbone-peer');
/** Doubled by the application on the other side: more than the windows and buffers on the way. */
const PAYLOAD = randomBytes(3 << 20);

test('a Go client reaches the application of a dedicated agent through port 15008', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  const server = network.addNode().addPod('server');
  using files = new DedicatedFiles([client, server]);
  const agent = await AgentProcess.start(server, { args: files.args(server) });
  const echo = await (await server.process()).listen(8080, 'double');
  const stranger = await startGoPeer({
    program,
    mode: 'client',
    material: files.material(client),
    args: [`${server.address}:15008`, identityOf(server)],
    namespace: client,
  });

  const socket = await (await client.process()).connect(stranger.address.ip, stranger.address.port);
  socket.write(`CONNECT ${server.address}:8080 HTTP/1.1\r\n\r\n`);
  const answer = 'HTTP/1.1 200 -\r\n\r\n';
  assert.equal(String(await readBytes(socket, answer.length)), answer);
  socket.end(PAYLOAD);
  assert.equal((await readToEnd(socket, 15_000)).length, 2 * PAYLOAD.length);
  assert.deepEqual(echo.clients, [client.address]);
  const [line] = await agent.awaitLines(1, (found) => found.direction === 'inbound');
  assert.deepEqual(
    [line?.['src.identity'], line?.path, line?.bytes_recv, line?.bytes_sent],
    [identityOf(client), 'hbone', PAYLOAD.length, 2 * PAYLOAD.length],
  );

  const lost = await (await client.process()).connect(stranger.address.ip, stranger.address.port);
  lost.write(`CONNECT ${client.address}:8080 HTTP/1.1\r\n\r\n`);
  assert.match(String(await readToEnd(lost)), /^HTTP\/1.1 400 /);
  await stranger.stop();
  assert.equal(await agent.stop(), 0);
});

test('an application captured by a dedicated agent reaches one behind a Go server', async () => {
  await using network = TestNetwork.create();
  const client = network.addNode().addPod('client');
  const server = network.addNode().addPod('server');
  using files = new DedicatedFiles([client, server]);
  const stranger = await startGoPeer({
    program,
    mode: 'server',
    material: files.material(server),
    args: [`${server.address}:15008`],
    namespace: server,
  });
  const agent = await AgentProcess.start(client, { args: files.args(client) });
  await (await server.process()).listen(8080, 'double');

  const socket = await (await client.process()).connect(server.address, 8080);
  socket.end(PAYLOAD);
  assert.equal((await readToEnd(socket, 15_000)).length, 2 * PAYLOAD.length);
  const [line] = await agent.awaitLines(1, (found) => found.direction === 'outbound');
  assert.deepEqual(
    [line?.['dst.identity'], line?.path, line?.bytes_sent, line?.bytes_recv, line?.error],
    [identityOf(server), 'hbone', PAYLOAD.length, 2 * PAYLOAD.length, undefined],
  );

  // Nobody listens there: the stranger answers 503.
  assert.equal(await (await client.process()).attempt(server.address, 9999), 'ECONNRESET');
  const [refused] = await agent.awaitLines(1, (found) => found.reason === 'TUNNEL_STATUS');
  assert.match(String(refused?.error), /503/);
  assert.equal(await agent.stop(), 0);
  await stranger.stop();
});
