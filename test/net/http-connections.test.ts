/** A stranger who holds every connection of a status port does not keep others from their answer. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ADMIN_LIMITS } from '../../agent/admin/http.ts';
import { startAdmin } from '../../agent/admin/server.ts';
import { openStatusServer, STATUS_LIMITS } from '../../control/status-server.ts';
import { boundConnections } from '../../core/http-connections.ts';
import { getIp } from '../../core/ip.ts';
import { testAdminSource } from '../support/admin-source.ts';

/** Connections that say `text` and then nothing. */
async function hold(context: TestContext, port: number, count: number, text = ''): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect(port, '127.0.0.1'));
  context.after(() => sockets.forEach((socket) => void socket.destroy()));
  for (const socket of sockets) {
    socket.on('error', () => {});
    socket.resume();
    if (!socket.connecting) continue;
    await once(socket, 'connect');
    socket.write(text);
  }
  return sockets;
}

async function statusOf(port: number, path: string): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(1500) });
  await answer.text();
  return answer.status;
}

async function allClosed(sockets: readonly Socket[], deadlineMs: number): Promise<void> {
  const signal = AbortSignal.timeout(deadlineMs);
  for (const socket of sockets) if (!socket.closed) await once(socket, 'close', { signal });
}

for (const text of ['', 'GET / HTTP/1.1\r\nX: ']) {
  test(`readiness and metrics of an agent answer at once while all connections are held after ${JSON.stringify(text)}`, async (context) => {
    const servers = await startAdmin(testAdminSource({}), { admin: 0, metrics: 0, readiness: 0 });
    context.after(() => servers.close());
    const { metrics, readiness } = servers.ports;
    const held = [
      ...(await hold(context, readiness, ADMIN_LIMITS.maxConnections + 10, text)),
      ...(await hold(context, metrics, ADMIN_LIMITS.maxConnections + 10, text)),
    ];
    assert.equal(await statusOf(readiness, '/healthz/ready'), 200);
    assert.equal(await statusOf(metrics, '/metrics'), 200);
    await allClosed(held, 2 * ADMIN_LIMITS.headersTimeoutMs + 2000);
  });
}

test('the status port of the control plane answers at once while all its connections are held', async (context) => {
  const source = {
    pending: () => [],
    metrics: async () => ({ contentType: 'text/plain', text: '' }),
    views: new Map(),
  };
  const { server, port } = await openStatusServer({ ip: getIp('127.0.0.1'), port: 0 }, source);
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const held = await hold(context, port, STATUS_LIMITS.maxConnections + 10);
  assert.equal(await statusOf(port, '/healthz/ready'), 200);
  await allClosed(held, 2 * STATUS_LIMITS.headersTimeoutMs + 2000);
});

test('at the limit the connection that is idle longest is closed, not the one that is being answered', async (context) => {
  const asked = Promise.withResolvers<() => void>();
  const server = createServer((_request, response) => asked.resolve(() => response.end('answer')));
  boundConnections(server, 3);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const [busy] = await hold(context, port, 1, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const answer = await asked.promise;
  const [first] = await hold(context, port, 1);
  const [second] = await hold(context, port, 1);
  const [third] = await hold(context, port, 1);
  assert.ok(busy && first && second && third);
  await allClosed([first], 1500);
  assert.deepEqual([busy.closed, second.closed, third.closed], [false, false, false]);
  let text = '';
  busy.on('data', (bytes) => {
    text += bytes;
  });
  answer();
  await allClosed([busy], 1500);
  assert.match(text, /answer/);
});
