/**
 * Fixture for tests on the reactor: a running loop that lets promises make progress, promises around its callbacks, and a
 * guard that fails the test when descriptors are left open.
 */
import { readdirSync } from 'node:fs';
import { getIp, type SocketAddress } from '../../core/ip.ts';
import { Arena } from '../../reactor/arena.ts';
import { type ByteChannel, NO_OWNER, READABLE, WOULD_BLOCK, WRITABLE } from '../../reactor/byte-channel.ts';
import { EventLoop } from '../../reactor/loop.ts';
import { SplicePipe } from '../../reactor/splice-pipe.ts';
import { type ConnectOptions, connectTcp } from '../../reactor/tcp-connect.ts';
import { type ListenOptions, listenTcp, type TcpListener } from '../../reactor/tcp-listen.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';

const DEADLINE_MS = 10_000;

/** Runs `work` on a running loop; stops and closes the loop afterwards and fails when descriptors were leaked. */
export async function withLoop(work: (loop: EventLoop) => Promise<void>): Promise<void> {
  const before = openDescriptors();
  const loop = EventLoop.open();
  const release = loop.keepAsyncAlive();
  const ended = loop.run();
  try {
    await Promise.race([work(loop), ended]);
  } finally {
    release();
    loop.stop();
    await ended;
    loop.close();
    SplicePipe.closePool();
  }
  await untilDescriptors(before);
}

/** Number of open descriptors of this process that are sockets, pipes, event or epoll descriptors. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

async function untilDescriptors(expected: number): Promise<void> {
  const deadline = performance.now() + 2000;
  while (openDescriptors() > expected) {
    if (performance.now() > deadline)
      throw new Error(`descriptors leaked: ${openDescriptors()} open, ${expected} before`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A promise with its ends, rejected after ten seconds with `what` in the message. */
export function deferred<T>(what: string): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const timer = setTimeout(() => reject(new Error(`timed out: ${what}`)), DEADLINE_MS);
  const settle = () => clearTimeout(timer);
  promise.then(settle, settle);
  return { promise, resolve, reject };
}

/** Resolves when `condition` holds after some turn of the loop. */
export async function until(loop: EventLoop, what: string, condition: () => boolean): Promise<void> {
  const { promise, resolve } = deferred<void>(what);
  const look = () => (condition() ? resolve() : void loop.setTimer(1, look));
  look();
  await promise;
}

export function connected(loop: EventLoop, options: ConnectOptions): Promise<TcpSocket> {
  const { promise, resolve, reject } = deferred<TcpSocket>('connect');
  connectTcp(loop, options, { onConnected: resolve, onConnectFailed: reject });
  return promise;
}

/** A listener on loopback and the sockets it accepts, in order. */
export function listening(
  loop: EventLoop,
  options: Partial<ListenOptions> = {},
): { listener: TcpListener; address: SocketAddress; accepted: () => Promise<TcpSocket> } {
  const waiting: ((socket: TcpSocket) => void)[] = [];
  const ready: TcpSocket[] = [];
  const listener = listenTcp(loop, { port: 0, ip: getIp('127.0.0.1'), ...options }, (socket) => {
    const taker = waiting.shift();
    if (taker === undefined) ready.push(socket);
    else taker(socket);
  });
  const accepted = () => {
    const first = ready.shift();
    if (first !== undefined) return Promise.resolve(first);
    const { promise, resolve } = deferred<TcpSocket>('accept');
    waiting.push(resolve);
    return promise;
  };
  return { listener, address: listener.address, accepted };
}

/** Both ends of one TCP connection over loopback. */
export async function socketPair(loop: EventLoop): Promise<[client: TcpSocket, server: TcpSocket]> {
  const { listener, address, accepted } = listening(loop);
  const [client, server] = await Promise.all([connected(loop, { to: address }), accepted()]);
  listener.close();
  return [client, server];
}

/** What a channel delivered until its end: the bytes, and the result that ended it (0 or -errno). */
export interface Received {
  readonly bytes: Buffer;
  readonly end: number;
}

/** Reads up to `limit` bytes (default: until the end of the stream) in pieces of `chunk`. */
export function receive(channel: ByteChannel, limit = Number.POSITIVE_INFINITY, chunk = 65536): Promise<Received> {
  const { promise, resolve } = deferred<Received>('receive');
  const arena = new Arena(chunk);
  const parts: Buffer[] = [];
  let total = 0;
  const finish = (end: number) => {
    if (!channel.closed) channel.setInterest(0);
    channel.owner = NO_OWNER;
    arena.free();
    resolve({ bytes: Buffer.concat(parts), end });
  };
  channel.owner = {
    onReadable() {
      while (total < limit) {
        const count = channel.read(arena, 0, Math.min(chunk, limit - total));
        if (count === WOULD_BLOCK) return;
        if (count <= 0) return finish(count);
        parts.push(Buffer.from(arena.bytes.subarray(0, count)));
        total += count;
      }
      finish(1);
    },
    onWritable() {},
    onBroken: (errno) => finish(-errno),
  };
  channel.setInterest(READABLE);
  return promise;
}

/** Writes all of `bytes`; resolves with the number of bytes or with the negative result that ended it. */
export function send(channel: ByteChannel, bytes: Uint8Array): Promise<number> {
  const { promise, resolve } = deferred<number>('send');
  const arena = new Arena(Math.max(1, bytes.length));
  arena.bytes.set(bytes);
  let sent = 0;
  const finish = (result: number) => {
    if (!channel.closed) channel.setInterest(0);
    channel.owner = NO_OWNER;
    arena.free();
    resolve(result);
  };
  const advance = () => {
    while (sent < bytes.length) {
      const count = channel.write(arena, sent, bytes.length - sent);
      if (count === WOULD_BLOCK) return channel.setInterest(WRITABLE);
      if (count < 0) return finish(count);
      sent += count;
    }
    finish(sent);
  };
  channel.owner = { onReadable() {}, onWritable: advance, onBroken: (errno) => finish(-errno) };
  advance();
  return promise;
}
