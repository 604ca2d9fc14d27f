/**
 * Random conversations, whole and damaged, in random pieces, to a server session; the engine alone, which gets all frames, is the
 * oracle. What is whole must give the same bodies; what the engine refuses the session must refuse too; nothing may throw.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arena } from '../../reactor/arena.ts';
import { WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { HBONE_HTTP2_LIMITS } from '../../reactor/http2/limits.ts';
import { Http2Runtime } from '../../reactor/http2/runtime.ts';
import { Http2Session } from '../../reactor/http2/session.ts';
import { EventLoop } from '../../reactor/loop.ts';
import { type EngineHandler, Nghttp2Session } from '../../reactor/sys/nghttp2.ts';
import { MemoryChannel } from '../support/memory-channel.ts';
import { ACK, END_HEADERS, END_STREAM, frame, literals, TYPE, uint32 } from '../support/raw-http2.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const BUDGET_MS = 4000;
const PADDED = 8;

interface Outcome {
  /** Bodies received, by stream, as `length:sum:ended`. */
  readonly bodies: ReadonlyMap<number, string>;
  readonly failed: boolean;
}

class Body {
  length = 0;
  sum = 0;
  ended = false;
  add(bytes: Uint8Array): void {
    for (const byte of bytes) this.sum = (this.sum * 31 + byte) >>> 0;
    this.length += bytes.length;
  }
  toString(): string {
    return `${this.length}:${this.sum}:${this.ended}`;
  }
}

/** A small linear congruential generator: a failing seed can be run again. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

function conversation(random: (below: number) => number): Buffer {
  const parts = [PREFACE, frame(TYPE.settings, 0, 0), frame(TYPE.settings, ACK, 0)];
  const open: number[] = [];
  let nextId = 1;
  for (let step = 0; step < 40; step++) {
    const id = open[random(open.length)];
    const choice = random(10);
    if (choice < 2 || id === undefined) {
      parts.push(...request(random, nextId));
      open.push(nextId);
      nextId += 2;
    } else if (choice < 6) {
      const payload = Buffer.alloc(random(3) === 0 ? 0 : random(2000), step);
      const end = random(8) === 0;
      parts.push(
        random(4) === 0 ? padded(random, id, payload, end) : frame(TYPE.data, end ? END_STREAM : 0, id, payload),
      );
      if (end) open.splice(open.indexOf(id), 1);
    } else if (choice === 6) {
      parts.push(frame(TYPE.windowUpdate, 0, random(2) === 0 ? 0 : id, uint32(0x0101 + random(200))));
    } else if (choice === 7) parts.push(frame(TYPE.ping, 0, 0, Buffer.alloc(8, step)));
    else if (choice === 8) parts.push(frame(0xf0 + random(8), random(256), id, Buffer.alloc(random(50))));
    else if (random(3) === 0) {
      parts.push(frame(TYPE.reset, 0, id, uint32(8)));
      open.splice(open.indexOf(id), 1);
    }
  }
  return Buffer.concat(parts);
}

function request(random: (below: number) => number, id: number): Buffer[] {
  const block = literals([
    [':method', 'CONNECT'],
    [':authority', '10.0.0.1:80'],
    ['baggage', 'x'.repeat(random(200))],
  ]);
  if (random(3) > 0) return [frame(TYPE.headers, END_HEADERS, id, block)];
  const cut = random(block.length);
  return [
    frame(TYPE.headers, 0, id, block.subarray(0, cut)),
    frame(TYPE.continuation, END_HEADERS, id, block.subarray(cut)),
  ];
}

function padded(random: (below: number) => number, id: number, payload: Buffer, end: boolean): Buffer {
  const padding = random(100);
  const flags = PADDED | (end ? END_STREAM : 0);
  return frame(TYPE.data, flags, id, Buffer.concat([Buffer.from([padding]), payload, Buffer.alloc(padding)]));
}

function oracle(bytes: Buffer): Outcome {
  const bodies = new Map<number, Body>();
  const arena = new Arena(Math.max(1, bytes.length));
  bytes.copy(arena.bytes);
  let failed = false;
  const handler: EngineHandler = {
    onHeader: () => 0,
    onHeaders(id, category) {
      if (category === 0) bodies.set(id, new Body());
    },
    onData(id, offset, length) {
      bodies.get(id)?.add(arena.bytes.subarray(offset, offset + length));
    },
    onEndStream(id) {
      const body = bodies.get(id);
      if (body !== undefined) body.ended = true;
    },
    onControl() {},
    onInvalidFrame() {},
    // A reset with NO_ERROR or CANCEL reads as the end of the body; after any other the body is void.
    onStreamClosed(id, code) {
      const body = bodies.get(id);
      if (code !== 0 && code !== 8) bodies.delete(id);
      else if (body !== undefined) body.ended = true;
    },
  };
  const engine = new Nghttp2Session('server', handler, HBONE_HTTP2_LIMITS);
  const output = new Arena(64 * 1024);
  try {
    engine.announce(HBONE_HTTP2_LIMITS, 'server');
    engine.send(output, 0, output.byteLength);
    engine.receive(arena, 0, bytes.length);
    while (engine.send(output, 0, output.byteLength) > 0);
    failed = engine.goawaySent;
  } catch {
    failed = true;
  }
  engine.free();
  arena.free();
  output.free();
  return { bodies: texts(bodies), failed };
}

function ours(runtime: Http2Runtime, bytes: Buffer, random: (below: number) => number): Outcome {
  const bodies = new Map<number, Body>();
  const channel = new MemoryChannel();
  const session = new Http2Session(runtime, channel, 'server', HBONE_HTTP2_LIMITS, {
    onRequest(stream) {
      const body = new Body();
      bodies.set(stream.id, body);
      stream.attach({
        fill: () => WOULD_BLOCK,
        take(arena, offset, length) {
          const taken = random(5) === 0 ? random(length) : length;
          body.add(arena.bytes.subarray(offset, offset + taken));
          if (taken < length) stalled.add(stream);
          return taken;
        },
        onRemoteEnd() {
          body.ended = true;
        },
        onClosed(error) {
          if (error !== undefined) bodies.delete(stream.id);
        },
      });
    },
    onClosed() {},
  });
  const stalled = new Set<{ resumeReceiving(): void }>();
  const settle = () => {
    for (const stream of stalled) {
      stalled.delete(stream);
      stream.resumeReceiving();
    }
  };
  session.onWritable();
  for (let at = 0; at < bytes.length; ) {
    const step = random(4) === 0 ? 1 + random(12) : 1 + random(4000);
    channel.put(bytes.subarray(at, at + step));
    at += step;
    session.onReadable();
    if (random(3) === 0) session.onWritable();
    settle();
  }
  while (stalled.size > 0) settle();
  session.onWritable();
  const failed = session.state === 'closing' || session.state === 'closed';
  const result = { bodies: texts(bodies), failed };
  session.onBroken(104);
  assert.equal(runtime.heldBytes, 0, 'held bytes are given back');
  return result;
}

function texts(bodies: Map<number, Body>): Map<number, string> {
  return new Map([...bodies].map(([id, body]) => [id, String(body)]));
}

test('whole conversations give the bodies the engine gives, however they are cut', () => {
  const loop = EventLoop.open();
  const runtime = Http2Runtime.of(loop);
  const deadline = performance.now() + BUDGET_MS;
  let rounds = 0;
  for (let seed = 1; performance.now() < deadline; seed++, rounds++) {
    const bytes = conversation(generator(seed));
    const expected = oracle(bytes);
    assert.equal(expected.failed, false, `seed ${seed}: the conversation is whole`);
    const outcome = ours(runtime, bytes, generator(seed + 1_000_000));
    assert.deepEqual(outcome, expected, `seed ${seed}`);
  }
  loop.close();
  assert.ok(rounds > 50, `${rounds} rounds`);
});

test('damaged conversations never throw, and what the engine refuses is refused', () => {
  const loop = EventLoop.open();
  const runtime = Http2Runtime.of(loop);
  const deadline = performance.now() + BUDGET_MS;
  let rounds = 0;
  let refused = 0;
  for (let seed = 1; performance.now() < deadline; seed++, rounds++) {
    const random = generator(seed + 7_000_000);
    const bytes = conversation(random);
    for (let damage = 0; damage <= random(3); damage++) {
      const at = PREFACE.length + random(bytes.length - PREFACE.length);
      if (random(2) === 0) bytes[at] = random(256);
      else bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
    }
    const expected = oracle(bytes);
    const outcome = ours(runtime, bytes, generator(seed));
    if (expected.failed) refused++;
    if (expected.failed && !outcome.failed) assert.fail(`seed ${seed}: the engine refuses what the session accepts`);
    if (!expected.failed && !outcome.failed) assert.deepEqual(outcome.bodies, expected.bodies, `seed ${seed}`);
  }
  loop.close();
  assert.ok(rounds > 50 && refused > 10, `${rounds} rounds, ${refused} refused`);
});
