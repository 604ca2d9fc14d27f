import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AmbitError, ERROR_TABLE, type ErrorCode } from '../../../core/errors.ts';
import { Arena } from '../../../reactor/arena.ts';
import { errorOfReset, resetCodeOf } from '../../../reactor/http2/error-codes.ts';
import { HeldBytes } from '../../../reactor/http2/held-bytes.ts';
import { HBONE_HTTP2_LIMITS } from '../../../reactor/http2/limits.ts';
import { HOLD_ARENA_BYTES, Http2Runtime } from '../../../reactor/http2/runtime.ts';
import { Http2Session } from '../../../reactor/http2/session.ts';
import { TokenBucket } from '../../../reactor/http2/token-bucket.ts';
import { EventLoop } from '../../../reactor/loop.ts';
import { Nghttp2Session } from '../../../reactor/sys/nghttp2.ts';
import { MemoryChannel } from '../../support/memory-channel.ts';

test('a token bucket gives its burst at once and refills with time', () => {
  const bucket = new TokenBucket({ burst: 3, perSecond: 2 }, 1000);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => bucket.take(1000)),
    [true, true, true, false],
  );
  assert.equal(bucket.take(1499), false);
  assert.equal(bucket.take(1501), true);
  assert.equal(bucket.take(1501), false);
  assert.deepEqual(
    [1, 2, 3, 4].map(() => bucket.take(60_000)),
    [true, true, true, false],
  );
});

test('NO_ERROR and CANCEL are clean ends, REFUSED_STREAM can be tried again, the rest are errors', () => {
  assert.equal(errorOfReset(0), undefined);
  assert.equal(errorOfReset(8), undefined);
  assert.equal(errorOfReset(7)?.code, 'STREAM_REFUSED');
  for (const code of [1, 2, 3, 5, 10, 11, 99]) assert.equal(errorOfReset(code)?.code, 'STREAM_RESET');
});

test('no error of ours looks like a clean end to the peer', () => {
  for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
    assert.notEqual(errorOfReset(resetCodeOf(new AmbitError(code, 'test'))), undefined, code);
  }
});

test('held bytes come back in order, in any portions, and their memory is given back', () => {
  const loop = EventLoop.open();
  const runtime = new Http2Runtime(loop);
  let accounted = 0;
  const held = new HeldBytes({
    runtime,
    accountHeld(delta) {
      accounted += delta;
    },
  });
  const source = new Arena(50_000);
  for (let index = 0; index < source.byteLength; index++) source.bytes[index] = index % 251;
  held.append(source, 0, 20_000);
  held.append(source, 20_000, 30_000);
  assert.equal(accounted, 4 * HOLD_ARENA_BYTES);
  assert.equal(runtime.heldBytes, accounted);
  const seen: number[] = [];
  const takeUpTo = (most: number) => ({
    take(arena: Arena, offset: number, length: number) {
      const count = Math.min(most, length);
      for (let index = 0; index < count; index++) seen.push(arena.bytes[offset + index] ?? -1);
      return count;
    },
  });
  while (held.length > 0) held.offer(takeUpTo(777));
  assert.equal(seen.length, 50_000);
  assert.ok(seen.every((value, index) => value === index % 251));
  assert.equal(accounted, 0);
  assert.equal(held.offer({ take: () => -32 }), 0);
  held.append(source, 0, 10);
  assert.equal(held.offer({ take: () => -32 }), -32);
  held.clear();
  assert.equal(runtime.heldBytes, 0);
  loop.close();
});

test('wrong use of the engine is an exception, never a crash', () => {
  const handler = {
    onHeader: () => 0,
    onHeaders() {},
    onData() {},
    onEndStream() {},
    onControl() {},
    onInvalidFrame() {},
    onStreamClosed() {},
  };
  const engine = new Nghttp2Session('client', handler, HBONE_HTTP2_LIMITS);
  const arena = new Arena(32 * 1024);
  assert.throws(() => engine.receive(arena, 32_000, 1000), { code: 'USAGE' });
  assert.throws(() => engine.send(arena, -1, 10), { code: 'USAGE' });
  assert.throws(() => engine.submitPing(new Uint8Array(7)), { code: 'USAGE' });
  assert.throws(() => engine.submitRequest(new Array(1000).fill(['a', 'b']), false), { code: 'USAGE' });
  engine.free();
  engine.free();
  assert.throws(() => engine.send(arena, 0, arena.byteLength), { code: 'CLOSED' });
  assert.throws(() => engine.submitReset(1, 0), { code: 'CLOSED' });
  arena.free();
  const other = new Nghttp2Session('server', handler, HBONE_HTTP2_LIMITS);
  assert.throws(() => other.receive(arena, 0, 1), { code: 'CLOSED' });
  other.free();
});

test('an exception of a handler ends its session, not the process', () => {
  const { client, server, serverErrors, exchange, loop } = pair({
    onRequest() {
      throw new Error('a defect');
    },
  });
  client.request(
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
    ],
    true,
    { onResponse() {}, onFailed() {} },
  );
  exchange();
  assert.equal(server.state, 'closing');
  server.onBroken(104);
  assert.equal(serverErrors[0]?.message, 'a defect');
  client.onBroken(104);
  loop.close();
});

test('a session closed inside its own callbacks is freed afterwards', () => {
  const { client, server, serverErrors, exchange, loop } = pair({
    onRequest: () => server.close(new AmbitError('DRAINED', 'closed in a callback')),
  });
  let failure = '';
  client.request(
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
    ],
    true,
    {
      onResponse() {},
      onFailed: (error) => {
        failure = error.code;
      },
    },
  );
  exchange();
  server.onBroken(104);
  assert.equal(server.state, 'closed');
  assert.equal(serverErrors[0]?.code, 'DRAINED');
  client.onBroken(104);
  assert.equal(failure, 'STREAM_RESET');
  loop.close();
});

test('general requests carry bodies with a length and trailers both ways', () => {
  const seen: string[] = [];
  const { client, exchange, loop, server } = pair({
    onRequest(stream, headers) {
      seen.push(`${headers.find(':method')} ${headers.find(':path')}`);
      let body = '';
      stream.respond([[':status', '200']], false);
      stream.attach({
        fill: fillOnce('answer', () => stream.endWithTrailers([['grpc-status', '0']])),
        take(arena: Arena, offset: number, length: number) {
          body += arena.bytes.toString('latin1', offset, offset + length);
          return length;
        },
        onRemoteEnd: () => void seen.push(body),
        onClosed: (error: AmbitError | undefined) => void seen.push(`closed ${error?.code}`),
      });
    },
  });
  const request = client.request(
    [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/x'],
      [':authority', 'a'],
      ['content-length', '4'],
    ],
    true,
    {
      onResponse: (headers) => void seen.push(`status ${headers.status}`),
      onFailed: (error) => void seen.push(error.message),
    },
  );
  request.attach({
    fill: fillOnce('body', () => {}),
    take(arena, offset, length) {
      seen.push(arena.bytes.toString('latin1', offset, offset + length));
      return length;
    },
    onRemoteEnd: (trailers) => void seen.push(`trailers ${trailers?.find('grpc-status')}`),
    onClosed: (error) => void seen.push(`done ${error?.code}`),
  });
  exchange();
  assert.deepEqual(seen.sort(), [
    'POST /x',
    'answer',
    'body',
    'closed undefined',
    'done undefined',
    'status 200',
    'trailers 0',
  ]);
  client.onBroken(104);
  server.onBroken(104);
  loop.close();
});

/** A source of one text, then `then` and the end. */
function fillOnce(text: string, then: () => void): (arena: Arena, offset: number) => number {
  let sent = false;
  return (arena, offset) => {
    if (sent) return 0;
    sent = true;
    arena.bytes.write(text, offset, 'latin1');
    then();
    return text.length;
  };
}

/** Two sessions joined in memory; `exchange` carries bytes until both are quiet. */
function pair(events: Partial<ConstructorParameters<typeof Http2Session>[4]>) {
  const loop = EventLoop.open();
  const runtime = new Http2Runtime(loop);
  const serverErrors: (AmbitError | undefined)[] = [];
  const a = new MemoryChannel();
  const b = new MemoryChannel();
  const client: Http2Session = new Http2Session(runtime, a, 'client', HBONE_HTTP2_LIMITS, { onClosed() {} });
  const server: Http2Session = new Http2Session(runtime, b, 'server', HBONE_HTTP2_LIMITS, {
    onClosed: (error) => void serverErrors.push(error),
    ...events,
  });
  const exchange = () => {
    for (let quiet = false; !quiet; ) {
      client.onWritable();
      server.onWritable();
      quiet = a.written.length + b.written.length === 0;
      b.put(a.written);
      a.put(b.written);
      a.written = Buffer.alloc(0);
      b.written = Buffer.alloc(0);
      client.onReadable();
      server.onReadable();
    }
  };
  return { client, server, serverErrors, exchange, loop };
}
