/**
 * Strangers at the gRPC port of the control plane: connections that say nothing, handshakes that do not end, calls
 * without a proof. They are bounded before TLS, counted, and an agent comes through beside them.
 */
import assert from 'node:assert/strict';
import { connect as connectHttp2, constants } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { ADDRESS_TYPE } from '../../control/discovery/resource.ts';
import type { ListenerLimits } from '../../control/listener.ts';
import { eventually } from '../support/eventually.ts';
import { DELTA_PATH, openRawSession, RawCall, RawXdsStream } from '../support/raw-xds-client.ts';
import { agentToken, workload, XdsServer } from '../support/xds-server.ts';

const REFUSALS = 'ambit_control_connections_refused';

async function start(context: TestContext, listener: Partial<ListenerLimits>): Promise<XdsServer> {
  const server = await XdsServer.start(context, { listener });
  server.addresses([workload('a')]);
  return server;
}

/** A TCP connection from an address of the loopback network that says nothing. */
function silent(context: TestContext, server: XdsServer, localAddress = '127.0.0.1'): Socket {
  const socket = connect({ port: server.port, host: '127.0.0.1', localAddress });
  socket.on('error', () => undefined);
  context.after(() => socket.destroy());
  return socket;
}

function closing(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

/** An agent at an address of its own gets what it asks for. */
async function isServed(context: TestContext, server: XdsServer, localAddress = '127.0.0.77'): Promise<void> {
  const session = connectHttp2(`https://127.0.0.1:${server.port}`, {
    ca: server.root.pem,
    checkServerIdentity: () => undefined,
    ...{ localAddress },
  });
  session.on('error', () => undefined);
  context.after(() => session.destroy());
  const stream = new RawXdsStream(session, agentToken('node-a'));
  stream.send({ type: ADDRESS_TYPE });
  assert.deepEqual(
    (await stream.nextAcknowledged()).resources.map(({ name }) => name),
    ['a'],
  );
}

test('connections that say nothing are bounded for their address, and an agent elsewhere is served', async (context) => {
  const server = await start(context, { maxUnprovenPerAddress: 20 });
  const sockets = Array.from({ length: 100 }, () => silent(context, server));
  await eventually('eighty are refused', async () =>
    assert.equal(await server.metric(REFUSALS, 'too many unproven of the address'), 80),
  );
  assert.deepEqual(server.listener.counts(), { connections: 20, unproven: 20 });
  await isServed(context, server);
  assert.deepEqual(server.listener.counts(), { connections: 21, unproven: 20 });
  assert.equal(await server.metric('ambit_control_connections', 'proven'), 1);
  for (const socket of sockets) socket.destroy();
  await eventually('nothing is left of them', () => assert.equal(server.listener.counts().unproven, 0));
});

test('connections from many addresses make room for an agent', async (context) => {
  const server = await start(context, { maxUnproven: 30, maxUnprovenPerAddress: 10 });
  for (let index = 0; index < 60; index++) silent(context, server, `127.0.1.${(index % 6) + 1}`);
  await eventually('all of the room is taken', async () => {
    assert.equal(server.listener.counts().unproven, 30);
    assert.ok((await server.metric(REFUSALS, 'made room')) >= 30);
  });
  await isServed(context, server);
});

test('a connection that proves nothing in time is closed, whether it speaks TLS or not', async (context) => {
  const server = await start(context, { proveWithinMs: 300 });
  const idle = silent(context, server);
  const half = silent(context, server);
  half.write(Buffer.from('16030100', 'hex'));
  const handshaken = connectTls({
    port: server.port,
    ca: server.root.pem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
  });
  handshaken.on('error', () => undefined);
  const closed = [idle, half, handshaken].map(closing);
  await Promise.all(closed);
  assert.ok((await server.metric(REFUSALS, 'not proven in time')) >= 2);
  await isServed(context, server);
});

test('an agent that has proven who it is may be quiet for as long as it likes', async (context) => {
  const server = await start(context, { proveWithinMs: 200 });
  const stream = new RawXdsStream(openRawSession(context, server.port, server.root.pem), agentToken('node-a'));
  stream.send({ type: ADDRESS_TYPE });
  await stream.nextAcknowledged();
  const witness = silent(context, server);
  await closing(witness);
  server.addresses([workload('b')]);
  assert.deepEqual(
    (await stream.nextAcknowledged()).resources.map(({ name }) => name),
    ['b'],
  );
});

test('calls without a proof close the connection they come on', async (context) => {
  const server = await start(context, { maxRefusedCalls: 5 });
  const session = openRawSession(context, server.port, server.root.pem);
  const statuses: string[] = [];
  for (let round = 0; round < 20 && !session.destroyed; round++) {
    statuses.push((await new RawXdsStream(session, 'nonsense').ended()).status);
  }
  assert.deepEqual(statuses.slice(0, 4), ['16', '16', '16', '16']);
  await eventually('the connection is closed', () => assert.ok(session.destroyed));
  assert.equal(await server.metric(REFUSALS, 'refused calls'), 1);
  await isServed(context, server);
});

test('calls that are taken back before they are judged count like refused ones', async (context) => {
  const server = await start(context, { maxUnjudgedCalls: 20 });
  const session = openRawSession(context, server.port, server.root.pem);
  await new Promise((resolve) => session.once('connect', resolve));
  let calls = 0;
  for (; calls < 500 && !session.destroyed; calls++) {
    const { stream } = new RawCall(session, DELTA_PATH, 'doubtful');
    // The head of the call is on its way before it is taken back.
    await new Promise((resolve) => setImmediate(resolve));
    stream.close(constants.NGHTTP2_CANCEL);
  }
  await eventually('the connection is closed', () => assert.ok(session.destroyed));
  assert.equal(await server.metric(REFUSALS, 'refused calls'), 1);
  assert.ok(calls < 100, `${calls} calls`);
  await isServed(context, server);
});

test('an agent may make as many calls on one connection as it likes', async (context) => {
  const server = await start(context, { maxUnjudgedCalls: 5 });
  const session = openRawSession(context, server.port, server.root.pem);
  for (let round = 0; round < 20; round++) {
    const call = new RawCall(session, DELTA_PATH, agentToken('node-a')).read();
    call.end();
    await call.ended;
  }
  assert.equal(session.destroyed, false);
});

test('an address that opens connections all the time is slowed down', async (context) => {
  const server = await start(context, { acceptBurst: 20, acceptsPerSecond: 1 });
  for (let index = 0; index < 50; index++) {
    const socket = silent(context, server);
    await new Promise<void>((resolve) => {
      socket.once('connect', resolve);
      socket.once('close', () => resolve());
    });
    socket.destroy();
  }
  await eventually('the rest is refused', async () =>
    assert.ok((await server.metric(REFUSALS, 'opened too often')) >= 28),
  );
  await isServed(context, server);
});
