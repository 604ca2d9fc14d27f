import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { type AddressInfo, createServer, connect as nodeConnect } from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { AmbitError } from '../../core/errors.ts';
import { getIp } from '../../core/ip.ts';
import { Arena } from '../../reactor/arena.ts';
import { READABLE, WOULD_BLOCK, WRITABLE } from '../../reactor/byte-channel.ts';
import {
  SO_KEEPALIVE,
  SOL_SOCKET,
  SOL_TCP,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
} from '../../reactor/sys/libc.ts';
import { readOption } from '../../reactor/sys/socket-options.ts';
import { connectTcp } from '../../reactor/tcp-connect.ts';
import { listenTcp } from '../../reactor/tcp-listen.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { connected, deferred, listening, receive, send, socketPair, until, withLoop } from '../support/reactor.ts';

const LOOPBACK = getIp('127.0.0.1');

test('bytes and half-close pass in both directions, with both addresses known at both ends', () =>
  withLoop(async (loop) => {
    const [client, server] = await socketPair(loop);
    assert.deepEqual(client.localAddress, server.remoteAddress);
    assert.deepEqual(server.localAddress, client.remoteAddress);
    const question = Buffer.alloc(3_000_000, 'question');
    const [sent, got] = await Promise.all([send(client, question), receive(server, question.length)]);
    assert.equal(sent, question.length);
    assert.ok(got.bytes.equals(question));
    client.shutdownWrite();
    const ended = await receive(server);
    assert.deepEqual([ended.bytes.length, ended.end], [0, 0]);
    assert.equal(await send(server, Buffer.from('answer after the half-close')), 27);
    server.close();
    const answer = await receive(client);
    assert.equal(answer.bytes.toString(), 'answer after the half-close');
    assert.equal(answer.end, 0);
    client.close();
  }));

test('a peer of Node sees what the reactor sends and the other way round', () =>
  withLoop(async (loop) => {
    const echo = createServer((socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    const { port } = echo.address() as AddressInfo;
    const socket = await connected(loop, { to: { ip: LOOPBACK, port } });
    const bytes = Buffer.alloc(500_000, 'echo');
    await send(socket, bytes.subarray(0, 100));
    assert.ok((await receive(socket, 100)).bytes.equals(bytes.subarray(0, 100)));
    socket.close();
    echo.close();
    const { listener, address, accepted } = listening(loop);
    const foreign = nodeConnect(address.port, '127.0.0.1');
    const ours = await accepted();
    foreign.end('from node');
    const { bytes: heard, end } = await receive(ours);
    assert.equal(heard.toString(), 'from node');
    assert.equal(end, 0);
    ours.close();
    listener.close();
  }));

test('a wildcard listener takes IPv4 and IPv6 and names IPv4 peers as IPv4', () =>
  withLoop(async (loop) => {
    const peers: string[] = [];
    const both = deferred<void>('two connections');
    const listener = listenTcp(loop, { port: 0 }, (socket) => {
      peers.push(`${socket.remoteAddress.ip} to ${socket.localAddress.ip}`);
      socket.close();
      if (peers.length === 2) both.resolve();
    });
    assert.equal(listener.address.ip, '::');
    const a = await connected(loop, { to: { ip: LOOPBACK, port: listener.address.port } });
    const b = await connected(loop, { to: { ip: getIp('::1'), port: listener.address.port } });
    await both.promise;
    assert.deepEqual(peers, ['127.0.0.1 to 127.0.0.1', '::1 to ::1']);
    a.close();
    b.close();
    listener.close();
  }));

test('a refused connection is CONNECT_FAILED with ECONNREFUSED, from a later turn', () =>
  withLoop(async (loop) => {
    const { listener, address } = listening(loop);
    listener.close();
    const { promise, resolve } = deferred<AmbitError>('refusal');
    let returned = false;
    connectTcp(
      loop,
      { to: address },
      {
        onConnected: () => assert.fail('connected'),
        onConnectFailed(error) {
          assert.ok(returned);
          resolve(error);
        },
      },
    );
    returned = true;
    const error = await promise;
    assert.equal(error.code, 'CONNECT_FAILED');
    assert.equal(error.errno, 111);
    assert.match(error.message, /^127\.0\.0\.1:\d+: ECONNREFUSED$/);
  }));

test('a failure that is known at once still arrives as a callback', () =>
  withLoop(async (loop) => {
    await assert.rejects(
      connected(loop, { to: { ip: getIp('::1'), port: 9 }, from: LOOPBACK }),
      (error) => error instanceof AmbitError && error.code === 'CONNECT_FAILED' && /another family/.test(error.message),
    );
    await assert.rejects(
      connected(loop, { to: { ip: getIp('255.255.255.255'), port: 9 } }),
      (error) => error instanceof AmbitError && error.code === 'CONNECT_FAILED' && (error.errno ?? 0) > 0,
    );
  }));

test('a peer that does not answer ends in CONNECT_TIMEOUT', () =>
  withLoop(async (loop) => {
    // A full backlog: the kernel drops further SYNs.
    const { listener, address } = listening(loop, { backlog: 0 });
    listener.pause();
    const first = await connected(loop, { to: address });
    const attempts: Promise<unknown>[] = [];
    for (let i = 0; i < 3; i++) {
      attempts.push(
        connected(loop, { to: address, timeoutMs: 200 }).then(
          (socket) => socket.close(),
          (error: unknown) => error,
        ),
      );
    }
    const outcomes = await Promise.all(attempts);
    const timedOut = outcomes.filter((error) => error instanceof AmbitError && error.code === 'CONNECT_TIMEOUT');
    assert.ok(timedOut.length > 0, `outcomes: ${outcomes.map(String).join(', ')}`);
    first.close();
    listener.close();
  }));

test('a cancelled attempt calls nobody', () =>
  withLoop(async (loop) => {
    const { listener, address, accepted } = listening(loop);
    const attempt = connectTcp(
      loop,
      { to: address },
      { onConnected: () => assert.fail('connected'), onConnectFailed: () => assert.fail('failed') },
    );
    attempt.cancel();
    attempt.cancel();
    const later = await connected(loop, { to: address });
    later.close();
    (await accepted()).close();
    (await accepted()).close();
    listener.close();
  }));

test('abort sends a reset that the peer reads as ECONNRESET', () =>
  withLoop(async (loop) => {
    const [client, server] = await socketPair(loop);
    const pending = receive(server);
    client.abort();
    assert.equal((await pending).end, -104);
    server.close();
  }));

test('a reset while no interest is set reaches the owner once as onBroken', () =>
  withLoop(async (loop) => {
    const [client, server] = await socketPair(loop);
    const broken: number[] = [];
    server.owner = { onReadable() {}, onWritable() {}, onBroken: (errno) => broken.push(errno) };
    server.setInterest(READABLE);
    server.setInterest(0);
    client.abort();
    await until(loop, 'onBroken', () => broken.length > 0);
    const turns = loop.stats.events;
    await until(loop, 'a few turns', () => loop.stats.turns > 0);
    assert.deepEqual(broken, [104]);
    assert.ok(loop.stats.events - turns < 5, 'the broken socket must not keep the loop busy');
    assert.equal((await receive(server)).end, -104, 'a later read must not take the reset for an orderly end');
    server.close();
  }));

test('a hang-up while no interest is set is not an error: the bytes are still there afterwards', () =>
  withLoop(async (loop) => {
    const [client, server] = await socketPair(loop);
    server.owner = { onReadable() {}, onWritable() {}, onBroken: () => assert.fail('not broken') };
    server.setInterest(READABLE);
    server.setInterest(0);
    server.shutdownWrite();
    await send(client, Buffer.from('last words'));
    client.shutdownWrite();
    await until(loop, 'some turns', () => loop.stats.turns > 5);
    const { bytes, end } = await receive(server);
    assert.equal(bytes.toString(), 'last words');
    assert.equal(end, 0);
    client.close();
    server.close();
  }));

test('writing blocks with WOULD_BLOCK when the peer does not read, and goes on when it does', () =>
  withLoop(async (loop) => {
    const [client, server] = await socketPair(loop);
    const arena = new Arena(1 << 20);
    let written = 0;
    for (;;) {
      const count = client.write(arena, 0, arena.byteLength);
      if (count === WOULD_BLOCK) break;
      assert.ok(count > 0);
      written += count;
    }
    const again = deferred<void>('writable');
    client.owner = { onReadable() {}, onWritable: () => again.resolve(), onBroken() {} };
    client.setInterest(WRITABLE);
    const [, got] = await Promise.all([again.promise, receive(server, written)]);
    assert.equal(got.bytes.length, written);
    client.close();
    server.close();
    arena.free();
  }));

test('an event of a descriptor that was closed and reused in the same batch does not reach the new owner', () =>
  withLoop(async (loop) => {
    // Two sockets become readable in the same turn; the first handler closes the other one and opens a new socket that
    // gets the same number.
    const pairs = [await socketPair(loop), await socketPair(loop)];
    const [[clientA, serverA], [clientB, serverB]] = pairs as [(typeof pairs)[0], (typeof pairs)[0]];
    const { listener, address, accepted } = listening(loop);
    const wrong: string[] = [];
    const opened: TcpSocket[] = [];
    let reused = false;
    let handled = 0;
    const swap = (victim: typeof serverA) => ({
      onReadable() {
        handled++;
        if (handled > 1) return;
        const number = victim.fd;
        victim.close();
        connectTcp(
          loop,
          { to: address },
          {
            onConnected(socket) {
              opened.push(socket);
              socket.owner = {
                onReadable: () => wrong.push('readable'),
                onWritable: () => wrong.push('writable'),
                onBroken: () => wrong.push('broken'),
              };
              reused = socket.fd === number;
              socket.setInterest(READABLE);
            },
            onConnectFailed: (error) => wrong.push(error.message),
          },
        );
        this.onReadable = () => {};
      },
      onWritable() {},
      onBroken() {},
    });
    const done = deferred<void>('both readable in one turn');
    loop.setTimer(0, () => {
      serverA.owner = swap(serverB);
      serverB.owner = swap(serverA);
      const arena = new Arena(1);
      clientA.write(arena, 0, 1);
      clientB.write(arena, 0, 1);
      arena.free();
      serverA.setInterest(READABLE);
      serverB.setInterest(READABLE);
      loop.setTimer(50, () => done.resolve());
    });
    await done.promise;
    assert.equal(handled, 1, 'the closed socket must not be called');
    assert.ok(reused, 'the test did not reuse the descriptor');
    assert.deepEqual(wrong, []);
    for (const socket of [clientA, clientB, serverA, serverB, await accepted(), ...opened]) socket.close();
    listener.close();
  }));

test('wrong use throws and leaves the process whole', () =>
  withLoop(async (loop) => {
    const [client, server] = await socketPair(loop);
    const arena = new Arena(16);
    const usage = (work: () => unknown) => assert.throws(work, (e) => e instanceof AmbitError && e.code === 'USAGE');
    const closed = (work: () => unknown) => assert.throws(work, (e) => e instanceof AmbitError && e.code === 'CLOSED');
    usage(() => client.read(arena, 0, 17));
    usage(() => client.read(arena, -1, 4));
    usage(() => client.write(arena, 16, 1));
    usage(() => client.write(arena, Number.NaN, 1));
    usage(() => client.write(arena, 0, -1));
    usage(() => client.read(arena, 0, 0));
    assert.equal(client.write(arena, 16, 0), 0);
    client.close();
    client.close();
    client.abort();
    client.shutdownWrite();
    closed(() => client.read(arena, 0, 1));
    closed(() => client.write(arena, 0, 1));
    closed(() => client.setInterest(READABLE));
    closed(() => client.localAddress);
    closed(() => client.originalDestination());
    arena.free();
    arena.free();
    closed(() => server.read(arena, 0, 1));
    assert.equal(arena.bytes.length, 0);
    server.close();
    const { listener } = listening(loop);
    listener.close();
    closed(() => listener.pause());
    usage(() => new Arena(0));
    usage(() => new Arena(1.5));
    usage(() => listenTcp(loop, { port: 70000 }, () => {}));
    assert.throws(
      () => listenTcp(loop, { port: 0, ip: getIp('192.0.2.1') }, () => {}),
      (error) => error instanceof AmbitError && error.code === 'SYSTEM_CALL' && error.errno === 99,
    );
  }));

test('out of descriptors, a listener waits instead of spinning and accepts when there are some again', async () => {
  const program = fileURLToPath(new URL('../support/exhausted-listener.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(
    'sh',
    ['-c', 'ulimit -n 64; exec "$0" "$1"', process.execPath, program],
    {
      timeout: 10_000,
    },
  );
  const turns = Number(/^turns=([0-9]+) accepted$/m.exec(stdout)?.[1]);
  assert.ok(turns > 0 && turns < 30, `output: ${stdout}`);
});

test('keep-alive of 180 s, 180 s and 9 probes is set on accepted and on connected sockets', () =>
  withLoop(async (loop) => {
    const { listener, address, accepted } = listening(loop, { keepAlive: true });
    const client = await connected(loop, { to: address, keepAlive: true });
    const server = await accepted();
    for (const socket of [client, server]) {
      const values = [TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_NODELAY].map((option) =>
        readOption(socket.fd, SOL_TCP, option),
      );
      assert.deepEqual([readOption(socket.fd, SOL_SOCKET, SO_KEEPALIVE), ...values], [1, 180, 180, 9, 1]);
      socket.close();
    }
    listener.close();
  }));
