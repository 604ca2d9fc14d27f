import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createServer } from 'node:tls';
import { AmbitError } from '../../core/errors.ts';
import { getIp, type SocketAddress } from '../../core/ip.ts';
import { isSpiffeId, type SpiffeId } from '../../core/spiffe.ts';
import { TunnelPool, type TunnelPoolOptions } from '../../hbone/pool.ts';
import type { HboneServerOptions, TunnelRequest } from '../../hbone/server.ts';
import type { Tunnel, TunnelEnd } from '../../hbone/tunnel.ts';
import { WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { HBONE_HTTP2_LIMITS } from '../../reactor/http2/limits.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import { TlsContext, type TlsMaterial } from '../../reactor/tls/context.ts';
import { CLIENT_ID, CLIENT_MATERIAL, SERVER_ID, SERVER_MATERIAL, within } from '../support/hbone-contract.ts';
import { tlsOptions } from '../support/hbone-peer-node.ts';
import { startOurServer } from '../support/hbone-peer-ours.ts';
import { createAuthority } from '../support/pki.ts';
import { END_HEADERS, frame, RawHttp2, TYPE } from '../support/raw-http2.ts';
import { listening, until, withLoop } from '../support/reactor.ts';

const LOOPBACK = getIp('127.0.0.1');

/** An end that sends nothing, takes everything and notes how it closed. */
class Quiet implements TunnelEnd {
  closed: { error: AmbitError | undefined } | undefined;
  ending = false;
  fill(): number {
    return this.ending ? 0 : WOULD_BLOCK;
  }
  take(_arena: unknown, _offset: number, length: number): number {
    return length;
  }
  onRemoteEnd(): void {
    this.ending = true;
  }
  onClosed(error: AmbitError | undefined): void {
    this.closed = { error };
  }
}

interface PoolWorld {
  readonly loop: EventLoop;
  readonly pool: TunnelPool;
  readonly requests: TunnelRequest<string>[];
  readonly server: ReturnType<typeof startOurServer>;
  open(): Promise<Tunnel>;
}

/** A pool and a server of ours that accepts every CONNECT with a quiet end. */
function inPoolWorld(
  work: (world: PoolWorld) => Promise<void>,
  options: TunnelPoolOptions = {},
  overrides: Partial<HboneServerOptions<string>> = {},
): Promise<void> {
  return withLoop(async (loop) => {
    const requests: TunnelRequest<string>[] = [];
    const server = startOurServer(loop, SERVER_MATERIAL, {
      onConnect(request) {
        requests.push(request);
        const end = new Quiet();
        const tunnel = request.accept([]);
        end.onRemoteEnd = () => {
          end.ending = true;
          tunnel.resumeSending();
        };
        tunnel.attach(end);
      },
      ...overrides,
    });
    await withPool(loop, options, async (pool, openTo) => {
      await work({ loop, pool, requests, server, open: () => openTo(server.address) });
    });
    await server.stop();
  });
}

async function withPool(
  loop: EventLoop,
  options: TunnelPoolOptions,
  work: (pool: TunnelPool, openTo: (dial: SocketAddress, expected?: string) => Promise<Tunnel>) => Promise<void>,
  material: TlsMaterial = CLIENT_MATERIAL,
): Promise<void> {
  const tls = TlsContext.create('client', material, { alpn: ['h2'], requirePeerCertificate: true });
  const pool = new TunnelPool(loop, options);
  const openTo = (dial: SocketAddress, expected = SERVER_ID) =>
    within(
      'the pool answers',
      new Promise<Tunnel>((resolve, reject) => {
        pool.open(
          {
            sourceIdentity: CLIENT_ID,
            expectedIdentities: identities(expected),
            dial,
            clientIp: LOOPBACK,
            tls: () => tls,
            authority: '10.0.0.1:80',
            headers: {},
          },
          { onOpen: resolve, onRefused: reject },
        );
      }),
    );
  try {
    await work(pool, openTo);
  } finally {
    pool.close();
    await until(loop, 'sessions closed', () => pool.stats.sessions === 0);
    tls.free();
  }
}

function identities(text: string): SpiffeId[] {
  return isSpiffeId(text) ? [text] : [];
}

function isCode(code: AmbitError['code']): (error: unknown) => boolean {
  return (error) => error instanceof AmbitError && error.code === code;
}

const many = <T>(count: number, make: () => Promise<T>) => Array.from({ length: count }, make);

test('a burst of fifty tunnels dials once', () =>
  inPoolWorld(async ({ pool, open }) => {
    await Promise.all(many(50, open));
    assert.equal(pool.stats.dials, 1);
    assert.equal(pool.stats.streams, 50);
  }));

test('a failed dial is told to everybody who waits, once', () =>
  withLoop((loop) =>
    withPool(loop, {}, async (pool, openTo) => {
      const { listener, address } = listening(loop);
      listener.close();
      const results = await Promise.allSettled(many(20, () => openTo(address)));
      for (const result of results) {
        assert.ok(result.status === 'rejected' && isCode('CONNECT_FAILED')(result.reason));
      }
      assert.equal(pool.stats.dials, 1);
      assert.equal(pool.stats.dialFailures, 1);
    }),
  ));

test('a peer with another identity is refused before any byte', () =>
  inPoolWorld(async ({ loop, server, requests }) => {
    await withPool(loop, {}, async (_pool, openTo) => {
      await assert.rejects(openTo(server.address, 'spiffe://cluster.local/ns/b/sa/other'), isCode('PEER_IDENTITY'));
    });
    assert.equal(requests.length, 0);
  }));

test('an empty list of expected identities always fails', () =>
  inPoolWorld(async ({ loop, server }) => {
    await withPool(loop, {}, async (_pool, openTo) => {
      await assert.rejects(openTo(server.address, ''), isCode('PEER_IDENTITY'));
    });
  }));

test('a server that refuses our certificate is named as the cause', () =>
  withLoop(async (loop) => {
    const foreign = createAuthority('foreign');
    const server = startOurServer(loop, SERVER_MATERIAL);
    const material = { ...foreign.issue({ uris: [CLIENT_ID] }), rootsPem: CLIENT_MATERIAL.rootsPem };
    await withPool(
      loop,
      {},
      async (_pool, openTo) => {
        await assert.rejects(openTo(server.address), isCode('TLS_HANDSHAKE'));
      },
      material,
    );
    await server.stop();
  }));

test('the number of streams the peer announces is honoured, more sessions carry the rest', () =>
  inPoolWorld(
    async ({ pool, open }) => {
      await open();
      await Promise.all(many(11, open));
      assert.equal(pool.stats.streams, 12);
      assert.equal(pool.stats.sessions, 3);
    },
    {},
    { http2: { ...HBONE_HTTP2_LIMITS, maxConcurrentStreams: 5 } },
  ));

test('at the bound of sessions tunnels wait for others to end', () =>
  inPoolWorld(
    async ({ loop, pool, open }) => {
      const first = await Promise.all(many(4, open));
      const late = open();
      await until(loop, 'one waits', () => pool.stats.waiting === 1);
      first[0]?.reset(new AmbitError('DRAINED', 'test'));
      await late;
      assert.equal(pool.stats.sessions, 2);
    },
    { maxStreamsPerSession: 2, sessionsPerPeer: 2 },
  ));

test('a session whose tunnels have ended is used again', () =>
  inPoolWorld(async ({ loop, pool, open }) => {
    for (let round = 0; round < 5; round++) {
      const tunnels = await Promise.all(many(100, open));
      for (const tunnel of tunnels) {
        const end = new Quiet();
        end.ending = true;
        tunnel.attach(end);
      }
      await until(loop, 'tunnels ended', () => pool.stats.streams === 0);
    }
    assert.equal(pool.stats.dials, 1);
  }));

test('an unused session is released, a used one is kept', () =>
  inPoolWorld(
    async ({ loop, pool, open, server }) => {
      const tunnel = await open();
      await new Promise<void>((resolve) => void loop.setTimer(150, resolve));
      assert.equal(pool.stats.sessions, 1);
      const end = new Quiet();
      end.ending = true;
      tunnel.attach(end);
      await until(loop, 'released', () => pool.stats.sessions === 0 && server.server.stats.sessions === 0);
    },
    { idleReleaseMs: 50 },
  ));

test('a cancelled attempt is never answered and leaves no stream', () =>
  inPoolWorld(async ({ loop, pool, open, server }) => {
    await open();
    const tls = TlsContext.create('client', CLIENT_MATERIAL, { alpn: ['h2'], requirePeerCertificate: true });
    let answers = 0;
    const target = {
      sourceIdentity: CLIENT_ID,
      expectedIdentities: identities(SERVER_ID),
      dial: server.address,
      clientIp: LOOPBACK,
      tls: () => tls,
      authority: '10.0.0.2:80',
      headers: {},
    };
    const handler = {
      onOpen: () => answers++,
      onRefused: () => answers++,
    };
    for (let index = 0; index < 10; index++) pool.open(target, handler).cancel();
    await open();
    await until(loop, 'two tunnels are left', () => server.server.stats.streams === 2);
    assert.equal(answers, 0);
    assert.equal(pool.stats.streams, 2);
    tls.free();
  }));

test('a CONNECT nobody answers ends with TUNNEL_TIMEOUT and the server hears of it', () => {
  let abandoned = false;
  return inPoolWorld(
    async ({ loop, open }) => {
      await assert.rejects(open(), isCode('TUNNEL_TIMEOUT'));
      await until(loop, 'abandoned', () => abandoned);
    },
    { responseTimeoutMs: 100 },
    {
      onConnect(request) {
        request.onAbandoned = () => {
          abandoned = true;
        };
      },
    },
  );
});

test('a tunnel that finds no room in time ends with TUNNEL_TIMEOUT, and the one that has it lives on', () =>
  inPoolWorld(
    async ({ pool, requests, open }) => {
      const tunnel = await open();
      const end = new Quiet();
      tunnel.attach(end);
      await assert.rejects(open(), { code: 'TUNNEL_TIMEOUT' });
      assert.equal(pool.stats.waiting, 0);
      assert.deepEqual([requests.length, end.closed], [1, undefined]);
    },
    { sessionsPerPeer: 1, maxStreamsPerSession: 1, responseTimeoutMs: 200 },
  ));

test('a closed pool ends its tunnels with DRAINED and takes no more', () =>
  inPoolWorld(async ({ loop, pool, open }) => {
    const end = new Quiet();
    (await open()).attach(end);
    pool.close();
    await until(loop, 'ended', () => end.closed !== undefined);
    assert.equal(end.closed?.error?.code, 'DRAINED');
    await assert.rejects(open(), isCode('DRAINED'));
  }));

test('a draining server finishes its tunnels and the pool dials anew', () =>
  inPoolWorld(async ({ loop, pool, open, server }) => {
    const tunnel = await open();
    const end = new Quiet();
    tunnel.attach(end);
    server.server.drain('pod');
    await until(loop, 'the client has heard', () => pool.stats.usable === 0);
    await open();
    assert.equal(pool.stats.dials, 2);
    assert.equal(end.closed, undefined);
    end.ending = true;
    tunnel.resumeSending();
    await until(loop, 'the drained session is gone', () => pool.stats.sessions === 1);
    assert.deepEqual(end.closed, { error: undefined });
  }));

test('a drain says GOAWAY twice: the highest id, then the last one served', () =>
  inPoolWorld(async ({ server }) => {
    const raw = await RawHttp2.open(server.address, CLIENT_MATERIAL);
    raw.connectRequest(1, '10.0.0.1:80');
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers);
    server.server.drain();
    const ping = await raw.frame('PING', (candidate) => candidate.type === TYPE.ping);
    raw.send(TYPE.ping, 1, 0, ping.payload);
    await raw.until('both', () => raw.frames.filter((candidate) => candidate.type === TYPE.goaway).length === 2);
    const ids = raw.frames.filter((one) => one.type === TYPE.goaway).map((one) => one.payload.readUInt32BE(0));
    assert.deepEqual(ids, [0x7fffffff, 1]);
    assert.equal(raw.closed, false);
    raw.send(TYPE.data, 1, 1);
    await raw.untilClosed();
  }));

test('a refused stream is tried again on another session, a bounded number of times', () =>
  withLoop(async (loop) => {
    let refusals = 2;
    const onStream = (stream: http2.ServerHttp2Stream) => {
      if (refusals-- > 0) stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      else stream.respond({ ':status': 200 });
    };
    await withNodeServer(onStream, (address) =>
      withPool(loop, {}, async (pool, openTo) => {
        await openTo(address);
        assert.equal(pool.stats.retries, 2);
        refusals = 1000;
        await assert.rejects(openTo(address), isCode('STREAM_REFUSED'));
        assert.equal(pool.stats.retries, 4);
      }),
    );
  }));

test('a stream that GOAWAY leaves unprocessed is opened on a new session', () =>
  withLoop(async (loop) => {
    let connections = 0;
    const goaway = frame(TYPE.goaway, 0, 0, Buffer.alloc(8));
    // Indexed field 8 of the static table: `:status: 200`.
    const accepted = frame(TYPE.headers, END_HEADERS, 1, Buffer.from([0x88]));
    const peer = createServer({ ...tlsOptions(SERVER_MATERIAL), requestCert: true }, (socket) => {
      const answer = connections++ === 0 ? goaway : accepted;
      socket.on('error', () => {});
      socket.write(frame(TYPE.settings, 0, 0));
      let answered = false;
      socket.on('data', (part: Buffer) => {
        // Type, flags and stream of the client's CONNECT.
        if (answered || !part.includes(frame(TYPE.headers, END_HEADERS, 1).subarray(3))) return;
        answered = true;
        socket.write(answer);
      });
    });
    await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve));
    const { port } = peer.address() as AddressInfo;
    try {
      await withPool(loop, {}, async (pool, openTo) => {
        await openTo({ ip: LOOPBACK, port });
        assert.equal(pool.stats.dials, 2);
        assert.equal(pool.stats.retries, 1);
      });
    } finally {
      await new Promise<void>((resolve) => void peer.close(() => resolve()));
    }
  }));

test('a status other than 200 is told with the error', () =>
  withLoop((loop) =>
    withNodeServer(
      (stream) => stream.respond({ ':status': 401 }, { endStream: true }),
      (address) =>
        withPool(loop, {}, async (_pool, openTo) => {
          await assert.rejects(openTo(address), isCode('TUNNEL_STATUS'));
        }),
    ),
  ));

test('a peer that answers no PING is given up', () =>
  withLoop(async (loop) => {
    const silent = createServer({ ...tlsOptions(SERVER_MATERIAL), requestCert: true }, (socket) => {
      socket.on('error', () => {});
      socket.resume();
    });
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const http2Limits = { ...HBONE_HTTP2_LIMITS, keepaliveIntervalMs: 30, keepaliveTimeoutMs: 60 };
    await withPool(loop, { http2: http2Limits }, async (_pool, openTo) => {
      await assert.rejects(openTo({ ip: LOOPBACK, port }), isCode('PING_TIMEOUT'));
    });
    await new Promise<void>((resolve) => void silent.close(() => resolve()));
  }));

test('an idle session that answers PINGs lives on', () =>
  inPoolWorld(
    async ({ loop, pool, open }) => {
      await open();
      await new Promise<void>((resolve) => void loop.setTimer(400, resolve));
      await open();
      assert.equal(pool.stats.dials, 1);
    },
    { http2: { ...HBONE_HTTP2_LIMITS, keepaliveIntervalMs: 30, keepaliveTimeoutMs: 60 } },
  ));

test('a second dial resumes the TLS session of the first and proves the same identity', () => {
  const tls = TlsContext.create('server', SERVER_MATERIAL, {
    alpn: ['h2'],
    requirePeerCertificate: true,
    ticketKeys: randomBytes(80),
  });
  return inPoolWorld(
    async ({ loop, pool, open, server, requests }) => {
      await open();
      server.server.drain('pod');
      await until(loop, 'the client has heard', () => pool.stats.usable === 0);
      await open();
      assert.equal(pool.stats.dials, 2);
      assert.equal(pool.stats.resumptions, 1);
      assert.deepEqual(
        requests.map((request) => request.peer.identity),
        [CLIENT_ID, CLIENT_ID],
      );
      tls.free();
    },
    {},
    { tls: () => tls },
  );
});

/** Runs `work` against a `node:http2` server. */
async function withNodeServer(
  onStream: (stream: http2.ServerHttp2Stream) => void,
  work: (address: SocketAddress) => Promise<void>,
): Promise<void> {
  const sessions = new Set<http2.ServerHttp2Session>();
  const server = http2.createSecureServer({ ...tlsOptions(SERVER_MATERIAL), requestCert: true });
  server.on('session', (session: http2.ServerHttp2Session) => {
    sessions.add(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream: http2.ServerHttp2Stream) => {
    stream.on('error', () => {});
    onStream(stream);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await work({ ip: LOOPBACK, port });
  } finally {
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      for (const session of sessions) session.destroy();
    });
  }
}
