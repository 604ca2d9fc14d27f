/**
 * Hostile bytes against TLS connections: mutated ClientHellos, and a relay that flips one bit somewhere in a conversation.
 * Every handshake ends in exactly one callback, no wrong plaintext is ever delivered, and the process lives.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { AmbitError } from '../../core/errors.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { TlsConnection } from '../../reactor/tls/connection.ts';
import { TlsContext } from '../../reactor/tls/context.ts';
import { createAuthority } from '../support/pki.ts';
import { connected, deferred, listening, receive, send, socketPair, withLoop } from '../support/reactor.ts';

const RUNS = 150;
const ROOT = createAuthority();
const MATERIAL = { ...ROOT.issue(), rootsPem: ROOT.pem };
const OPTIONS = { alpn: ['h2'], requirePeerCertificate: true } as const;

type Outcome = TlsConnection | AmbitError;

function handshake(loop: EventLoop, socket: TcpSocket, context: TlsContext): Promise<Outcome> {
  const { promise, resolve } = deferred<Outcome>('handshake');
  let calls = 0;
  const once = (outcome: Outcome) => {
    assert.equal(++calls, 1, 'one callback per handshake');
    resolve(outcome);
  };
  new TlsConnection(loop, socket, context, { timeoutMs: 3000, onSecure: once, onHandshakeFailed: once });
  return promise;
}

async function clientHello(loop: EventLoop, context: TlsContext): Promise<Buffer> {
  const [socket, other] = await socketPair(loop);
  const connection = new TlsConnection(loop, socket, context, {
    timeoutMs: 3000,
    onSecure() {},
    onHandshakeFailed() {},
  });
  const head = (await receive(other, 5)).bytes;
  const body = (await receive(other, head.readUInt16BE(3))).bytes;
  connection.abort();
  other.close();
  return Buffer.concat([head, body]);
}

const mutation = fc.oneof(
  fc.record({ kind: fc.constant('flip'), at: fc.nat(), value: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ kind: fc.constant('cut'), at: fc.nat(), value: fc.constant(0) }),
  fc.record({ kind: fc.constant('grow'), at: fc.nat(), value: fc.integer({ min: 1, max: 2000 }) }),
);

function mutate(bytes: Buffer, mutations: readonly { kind: string; at: number; value: number }[]): Buffer {
  let result = Buffer.from(bytes);
  for (const { kind, at, value } of mutations) {
    const place = at % Math.max(1, result.length);
    if (kind === 'cut') result = result.subarray(0, place);
    else if (kind === 'grow') {
      result = Buffer.concat([result.subarray(0, place), randomBytes(value), result.subarray(place)]);
    } else if (result.length > 0) result[place] = (result[place] ?? 0) ^ value;
  }
  return result;
}

test('a server meets mutated and random hellos with one failure each', () =>
  withLoop(async (loop) => {
    const server = TlsContext.create('server', MATERIAL, OPTIONS);
    const client = TlsContext.create('client', MATERIAL, OPTIONS);
    const hello = await clientHello(loop, client);
    const input = fc.oneof(
      fc.array(mutation, { minLength: 1, maxLength: 4 }).map((mutations) => mutate(hello, mutations)),
      fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
    );
    await fc.assert(
      fc.asyncProperty(input, async (bytes) => {
        const [hostile, ours] = await socketPair(loop);
        const outcome = handshake(loop, ours, server);
        await send(hostile, bytes);
        hostile.shutdownWrite();
        const result = await outcome;
        assert.ok(result instanceof AmbitError && result.code === 'TLS_HANDSHAKE', 'nobody becomes secure like this');
        assert.ok(result.message.length > 0 && result.message.length < 300);
        hostile.close();
      }),
      { numRuns: RUNS },
    );
    server.free();
    client.free();
  }));

test('one flipped bit anywhere in a conversation never yields a wrong byte of plaintext', () =>
  withLoop(async (loop) => {
    const server = TlsContext.create('server', MATERIAL, OPTIONS);
    const client = TlsContext.create('client', MATERIAL, OPTIONS);
    const said = randomBytes(3000);
    const damage = fc.record({ fromClient: fc.boolean(), at: fc.nat({ max: 6000 }), bit: fc.nat({ max: 7 }) });
    await fc.assert(
      fc.asyncProperty(damage, async ({ fromClient, at, bit }) => {
        const { listener, address, accepted } = listening(loop);
        const relay = await openRelay(address.port, fromClient ? at : -1, fromClient ? -1 : at, bit);
        const clientSocket = await connected(loop, { to: { ip: address.ip, port: relay.port } });
        const heard = await Promise.all([
          converse(handshake(loop, clientSocket, client), said),
          converse(handshake(loop, await accepted(), server), said),
        ]);
        for (const bytes of heard) assert.ok(said.subarray(0, bytes.length).equals(bytes));
        await relay.close();
        listener.close();
      }),
      { numRuns: RUNS / 3 },
    );
    server.free();
    client.free();
  }));

/** Says everything, hears until the end, closes. */
async function converse(outcome: Promise<Outcome>, said: Buffer): Promise<Buffer> {
  const connection = await outcome;
  if (connection instanceof AmbitError) return Buffer.alloc(0);
  await send(connection, said);
  connection.shutdownWrite();
  const { bytes } = await receive(connection);
  connection.close();
  return bytes;
}

/** A middleman on Node's sockets that flips one bit of the byte `up` (from the client) or `down`; -1 = none. */
async function openRelay(to: number, up: number, down: number, bit: number) {
  const relay = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
    copy(near, far, up, bit);
    copy(far, near, down, bit);
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const { port } = relay.address() as AddressInfo;
  return { port, close: () => new Promise<void>((resolve) => relay.close(() => resolve())) };
}

function copy(from: Socket, to: Socket, at: number, bit: number): void {
  let position = 0;
  from.on('data', (bytes) => {
    if (typeof bytes === 'string') return;
    const place = at - position;
    if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] ?? 0) ^ (1 << bit);
    position += bytes.length;
    to.write(bytes);
  });
  from.on('end', () => to.end());
  from.on('error', () => to.destroy());
  from.on('close', () => to.destroySoon());
}
