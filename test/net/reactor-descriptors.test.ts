import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AmbitError } from '../../core/errors.ts';
import { READABLE, WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { probeRuntime } from '../../reactor/probe.ts';
import { SplicePipe } from '../../reactor/splice-pipe.ts';
import { peerCredentials, receiveDescriptors, sendDescriptors } from '../../reactor/unix-socket.ts';
import { deferred, receive, send, socketPair, withLoop } from '../support/reactor.ts';

const is = (code: string) => (error: unknown) => error instanceof AmbitError && error.code === code;

test('splice moves a large transfer from socket to socket inside the kernel, to the last byte', () =>
  withLoop(async (loop) => {
    const [source, inbound] = await socketPair(loop);
    const [outbound, sink] = await socketPair(loop);
    const pipe = SplicePipe.take();
    assert.ok(pipe !== undefined);
    const bytes = randomBytes(8_000_000);
    let moved = 0;
    const done = deferred<void>('splice');
    const pump = () => {
      for (;;) {
        const drained: number = pipe.drain(outbound);
        if (drained === WOULD_BLOCK) return outbound.setInterest(4);
        assert.ok(drained >= 0);
        if (pipe.buffered > 0) continue;
        const filled: number = pipe.fill(inbound, 1 << 20);
        if (filled === WOULD_BLOCK) return;
        assert.ok(filled >= 0);
        if (filled === 0) {
          inbound.setInterest(0);
          outbound.setInterest(0);
          outbound.shutdownWrite();
          return done.resolve();
        }
        moved += filled;
      }
    };
    const owner = { onReadable: pump, onWritable: pump, onBroken: () => assert.fail('broken') };
    inbound.owner = owner;
    outbound.owner = {
      ...owner,
      onWritable() {
        outbound.setInterest(0);
        pump();
      },
    };
    inbound.setInterest(READABLE);
    const [, got] = await Promise.all([
      send(source, bytes).then(() => source.shutdownWrite()),
      receive(sink),
      done.promise,
    ]);
    assert.equal(moved, bytes.length);
    assert.ok(got.bytes.equals(bytes));
    pipe.giveBack();
    assert.equal(SplicePipe.take(), pipe, 'an empty pipe is used again');
    pipe.close();
    assert.throws(() => pipe.fill(inbound, 1), is('CLOSED'));
    const other = SplicePipe.take();
    assert.throws(() => other?.fill(inbound, 0), is('USAGE'));
    other?.close();
    for (const socket of [source, inbound, outbound, sink]) socket.close();
    SplicePipe.closePool();
  }));

async function unixPair(): Promise<{ a: Socket; b: Socket; server: Server; folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-test-'));
  const path = join(folder, 's');
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const server = createServer({ pauseOnConnect: true }, resolve);
  await new Promise<void>((listening) => server.listen(path, listening));
  const a = connect({ path });
  return { a, b: await promise, server, folder };
}

/** Descriptor of a socket of Node's. */
function fdOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  assert.ok(typeof fd === 'number' && fd >= 0);
  return fd;
}

test('descriptors and credentials pass over a UNIX socket', async () => {
  const { a, b, server, folder } = await unixPair();
  try {
    assert.deepEqual(peerCredentials(fdOf(b)), { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
    assert.throws(() => peerCredentials(-1), is('SYSTEM_CALL'));
    assert.equal(receiveDescriptors(fdOf(b), 100, 4), WOULD_BLOCK);
    writeFileSync(join(folder, 'one'), 'contents of one');
    const files = [openSync(join(folder, 'one'), 'r'), openSync('/proc/self/ns/net', 'r')];
    assert.equal(sendDescriptors(fdOf(a), Buffer.from('take these'), files), 10);
    const message = receiveDescriptors(fdOf(b), 100, 4);
    assert.ok(typeof message === 'object');
    assert.equal(message.bytes.toString(), 'take these');
    assert.equal(message.descriptors.length, 2);
    const [first, second] = message.descriptors;
    assert.ok(first !== undefined && second !== undefined && !files.includes(first));
    assert.equal(readFileSync(first, 'utf8'), 'contents of one');
    assert.equal(fstatSync(second).ino, fstatSync(files[1] ?? -1).ino);
    for (const fd of message.descriptors) closeSync(fd);
    assert.equal(sendDescriptors(fdOf(a), Buffer.from('none'), []), 4);
    const plain = receiveDescriptors(fdOf(b), 2, 0);
    assert.ok(typeof plain === 'object');
    assert.deepEqual([plain.bytes.toString(), plain.descriptors], ['no', []]);
    receiveDescriptors(fdOf(b), 100, 0);
    const open = () => fstatCount();
    const before = open();
    sendDescriptors(fdOf(a), Buffer.from('too many'), files);
    assert.equal(receiveDescriptors(fdOf(b), 100, 1), -71, 'more descriptors than allowed');
    sendDescriptors(fdOf(a), Buffer.from('unexpected'), files);
    assert.equal(receiveDescriptors(fdOf(b), 100, 0), -71, 'descriptors where none are allowed');
    assert.equal(open(), before, 'unwanted descriptors are closed');
    for (const fd of files) closeSync(fd);
    a.end();
    await new Promise((resolve) => a.once('finish', resolve));
    const end = receiveDescriptors(fdOf(b), 10, 1);
    assert.ok(typeof end === 'object' && end.bytes.length === 0);
    assert.throws(() => sendDescriptors(fdOf(b), Buffer.alloc(0), []), is('USAGE'));
    assert.throws(() => sendDescriptors(fdOf(b), Buffer.alloc(1), new Array<number>(300).fill(0)), is('USAGE'));
    assert.throws(() => receiveDescriptors(fdOf(b), 0, 1), is('USAGE'));
    assert.equal(sendDescriptors(-1, Buffer.alloc(1), []), -9);
  } finally {
    a.destroy();
    b.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  }
});

test('the runtime that runs these tests has everything but perhaps capabilities', () => {
  assert.deepEqual(
    probeRuntime().filter((problem) => problem.code !== 'MISSING_CAPABILITY'),
    [],
  );
});

function fstatCount(): number {
  let count = 0;
  for (let fd = 0; fd < 256; fd++) {
    try {
      fstatSync(fd);
      count++;
    } catch {
      // Not open.
    }
  }
  return count;
}
