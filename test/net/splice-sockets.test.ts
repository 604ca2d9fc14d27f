/** Two sockets joined: copy at first, inside the kernel after 256 KiB; exact counts, half-close, one end. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { AmbitError } from '../../core/errors.ts';
import type { Splice, SpliceResult } from '../../hbone/splice.ts';
import { spliceSockets } from '../../hbone/splice-sockets.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { deferred, receive, send, socketPair, until, withLoop } from '../support/reactor.ts';

interface Joined {
  readonly client: TcpSocket;
  readonly server: TcpSocket;
  readonly splice: Splice;
  readonly ended: Promise<SpliceResult>;
}

/** client -- [middle] -- server */
async function join(loop: EventLoop): Promise<Joined> {
  const [client, a] = await socketPair(loop);
  const [b, server] = await socketPair(loop);
  const { promise, resolve } = deferred<SpliceResult>('end of the splice');
  return { client, server, splice: spliceSockets(loop, a, b, resolve), ended: promise };
}

for (const [name, up, down] of [
  ['small', 100, 2000],
  ['around the threshold', 256 * 1024, 256 * 1024 + 1],
  ['large and lopsided', 20_000_000, 5],
  ['large both ways', 8_000_000, 9_000_001],
] as const) {
  test(`${name} transfers arrive whole, with half-close and exact counts`, () =>
    withLoop(async (loop) => {
      const { client, server, ended } = await join(loop);
      const question = randomBytes(up);
      const answer = randomBytes(down);
      const heard = receive(server);
      await send(client, question);
      client.shutdownWrite();
      const got = await heard;
      assert.ok(got.bytes.equals(question));
      assert.equal(got.end, 0);
      const back = receive(client);
      await send(server, answer);
      server.shutdownWrite();
      const returned = await back;
      assert.ok(returned.bytes.equals(answer));
      assert.equal(returned.end, 0);
      assert.deepEqual(await ended, { fromSocket: up, toSocket: down });
      client.close();
      server.close();
    }));
}

test('a receiver that pauses loses nothing and stops the sender', () =>
  withLoop(async (loop) => {
    const { client, server, splice, ended } = await join(loop);
    const bytes = randomBytes(30_000_000);
    const sending = send(client, bytes).then(() => client.shutdownWrite());
    let before = -1;
    await until(loop, 'the pipe and all sockets are full', () => {
      const stands = splice.fromSocket === before && before > 256 * 1024;
      before = splice.fromSocket;
      return stands;
    });
    assert.ok(splice.fromSocket < bytes.length, 'everything fitted into buffers; the test needs more bytes');
    const got = await receive(server);
    assert.ok(got.bytes.equals(bytes));
    await sending;
    server.close();
    assert.deepEqual(await ended, { fromSocket: bytes.length, toSocket: 0 });
    client.close();
  }));

test('a reset of one side in the middle of a large transfer ends both, once, with the bytes counted so far', () =>
  withLoop(async (loop) => {
    const { client, server, ended } = await join(loop);
    const bytes = randomBytes(20_000_000);
    const sending = send(client, bytes);
    await receive(server, 2_000_000);
    server.abort();
    const result = await ended;
    assert.equal(result.error?.code, 'APPLICATION_RESET');
    assert.ok(result.fromSocket >= 2_000_000 && result.fromSocket < bytes.length);
    assert.ok((await sending) < 0);
    client.close();
  }));

test('an abort from outside resets both sides and frees the pipe', () =>
  withLoop(async (loop) => {
    const { client, server, splice, ended } = await join(loop);
    const sending = send(client, randomBytes(20_000_000));
    await receive(server, 1_000_000);
    splice.abort(new AmbitError('POLICY_CHANGED', 'no longer allowed'));
    splice.abort(new AmbitError('POLICY_CHANGED', 'no longer allowed'));
    assert.equal((await ended).error?.code, 'POLICY_CHANGED');
    assert.ok((await sending) < 0);
    assert.equal((await receive(server)).end, -104);
    client.close();
    server.close();
  }));
