/** Rows 12, 13 and 15 of the attack table: handshakes that do not end, certificates that prove nothing, requests that are no CONNECT. */
import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import type { TcpListener } from '../../reactor/tcp-listen.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import { CLIENT_ID, TEST_ROOT } from '../support/hbone-contract.ts';
import { type HostileWorld, inHostileWorld } from '../support/hostile-world.ts';
import { createAuthority, type LeafOptions } from '../support/pki.ts';
import { END_HEADERS, END_STREAM, literals, type RawHttp2, TYPE } from '../support/raw-http2.ts';
import { until } from '../support/reactor.ts';

test('row 12: connections that never say hello are bounded in number and in time', () =>
  inHostileWorld(
    async (world) => {
      const sockets = Array.from({ length: 20 }, () => net.connect(world.server.address.port, '127.0.0.1'));
      for (const socket of sockets) socket.on('error', () => {});
      await world.refused('SESSION_LIMIT');
      await world.innocent();
      await world.refused('TLS_TIMEOUT');
      await until(world.loop, 'all are gone', () => world.refusals.length === 20);
      assert.equal(world.refusals.filter((error) => error.code === 'SESSION_LIMIT').length, 12);
      for (const socket of sockets) socket.destroy();
    },
    { maxConcurrentHandshakes: 8, handshakeTimeoutMs: 300 },
  ));

test('row 12: one address that never says hello does not keep others from their handshake', () =>
  inHostileWorld(
    async (world) => {
      const sockets = Array.from({ length: 20 }, () => {
        return net.connect({ port: world.server.address.port, host: '127.0.0.1', localAddress: '127.0.0.2' });
      });
      for (const socket of sockets) socket.on('error', () => {});
      await until(world.loop, 'what is too much is refused', () => world.refusals.length === 16);
      const other = await world.attacker();
      other.connectRequest(1, world.echo);
      await until(world.loop, 'the other one is served', () => world.connects() === 2);
      assert.ok(world.refusals.every((error) => error.code === 'SESSION_LIMIT'));
      for (const socket of sockets) socket.destroy();
    },
    { maxConcurrentHandshakes: 8, maxHandshakesPerAddress: 4 },
  ));

test('row 12: at the bound of handshakes arrivals wait in the queue of the kernel and are served later', () => {
  let listener: TcpListener | undefined;
  const holds: boolean[] = [];
  return inHostileWorld(
    async (world) => {
      listener = world.server.listener;
      const sockets = Array.from({ length: 20 }, () => net.connect(world.server.address.port, '127.0.0.1'));
      for (const socket of sockets) socket.on('error', () => {});
      await until(world.loop, 'the bound is reached', () => holds.length === 1);
      await world.innocent();
      const late = await world.attacker();
      late.connectRequest(1, world.echo);
      await until(world.loop, 'the late one is served', () => world.connects() === 2);
      await until(world.loop, 'the silent ones are gone', () => world.refusals.length === 20);
      assert.ok(world.refusals.every((error) => error.code === 'TLS_TIMEOUT'));
      assert.equal(holds.at(-1), false);
      for (const socket of sockets) socket.destroy();
    },
    {
      maxConcurrentHandshakes: 8,
      handshakeTimeoutMs: 200,
      onCrowded(crowded) {
        holds.push(crowded);
        if (crowded) listener?.pause();
        else listener?.resume();
      },
    },
  );
});

test('row 12: garbage instead of a handshake is refused', () =>
  inHostileWorld(async (world) => {
    const socket = net.connect(world.server.address.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\n\r\n');
    await world.refused('TLS_HANDSHAKE');
    socket.destroy();
  }));

const foreign = createAuthority('foreign root');
const HOUR_MS = 3_600_000;
const now = Date.now();

function leaf(options: LeafOptions, issuer = TEST_ROOT): TlsMaterial {
  return { ...issuer.issue(options), rootsPem: TEST_ROOT.pem };
}

const STRANGERS: readonly [what: string, code: 'TLS_HANDSHAKE' | 'PEER_IDENTITY' | 'TRUST_DOMAIN', TlsMaterial][] = [
  ['a certificate of a foreign root', 'TLS_HANDSHAKE', leaf({ uris: [CLIENT_ID] }, foreign)],
  [
    'an expired certificate',
    'TLS_HANDSHAKE',
    leaf({ uris: [CLIENT_ID], notBefore: new Date(now - 2 * HOUR_MS), notAfter: new Date(now - HOUR_MS) }),
  ],
  [
    'a certificate of tomorrow',
    'TLS_HANDSHAKE',
    leaf({ uris: [CLIENT_ID], notBefore: new Date(now + HOUR_MS), notAfter: new Date(now + 2 * HOUR_MS) }),
  ],
  ['another trust domain', 'TRUST_DOMAIN', leaf({ uris: ['spiffe://elsewhere/ns/a/sa/client'] })],
  ['no URI name', 'PEER_IDENTITY', leaf({ uris: [] })],
  ['two URI names', 'PEER_IDENTITY', leaf({ uris: [CLIENT_ID, 'spiffe://cluster.local/ns/a/sa/other'] })],
  ['a path that is no workload', 'PEER_IDENTITY', leaf({ uris: ['spiffe://cluster.local/ns/a/sa/client/extra'] })],
  ['a wildcard', 'PEER_IDENTITY', leaf({ uris: ['spiffe://cluster.local/ns/*/sa/client'] })],
  ['another scheme', 'PEER_IDENTITY', leaf({ uris: ['https://cluster.local/ns/a/sa/client'] })],
  ['a comma that pretends a second name', 'PEER_IDENTITY', leaf({ uris: [`spiffe://x/ns/a/sa/b, URI:${CLIENT_ID}`] })],
];

for (const [what, code, material] of STRANGERS) {
  test(`row 13: ${what} is refused before any request`, () =>
    inHostileWorld(async (world) => {
      const connects = world.connects();
      const raw = await world.attacker(Buffer.alloc(0), material).catch(() => undefined);
      raw?.connectRequest(1, world.echo);
      await world.refused(code);
      await raw?.untilClosed();
      assert.equal(world.connects(), connects);
    }));
}

const REQUESTS: readonly [what: string, outcome: '400' | 'reset', fields: readonly (readonly [string, string])[]][] = [
  [
    'GET',
    '400',
    [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/'],
      [':authority', 'a:80'],
    ],
  ],
  [
    'extended CONNECT',
    'reset',
    [
      [':method', 'CONNECT'],
      [':protocol', 'websocket'],
      [':scheme', 'https'],
      [':path', '/'],
      [':authority', 'a:80'],
    ],
  ],
  [
    'CONNECT with a path',
    'reset',
    [
      [':method', 'CONNECT'],
      [':path', '/'],
      [':authority', '10.0.0.1:80'],
    ],
  ],
  ['CONNECT without authority', 'reset', [[':method', 'CONNECT']]],
  [
    'a host without port',
    '400',
    [
      [':method', 'CONNECT'],
      [':authority', 'host'],
    ],
  ],
  [
    'port 0',
    '400',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.1:0'],
    ],
  ],
  [
    'port 65536',
    '400',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.1:65536'],
    ],
  ],
  [
    'an IPv6 zone',
    '400',
    [
      [':method', 'CONNECT'],
      [':authority', '[fe80::1%25eth0]:80'],
    ],
  ],
  [
    'user information',
    'reset',
    [
      [':method', 'CONNECT'],
      [':authority', 'user@10.0.0.1:80'],
    ],
  ],
  [
    '64 KB of authority',
    'reset',
    [
      [':method', 'CONNECT'],
      [':authority', `${'a'.repeat(60_000)}:80`],
    ],
  ],
  [
    'a line break in the authority',
    'reset',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.1:80\r\nx: y'],
    ],
  ],
  [
    'two authorities',
    'reset',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.1:80'],
      [':authority', '10.0.0.2:80'],
    ],
  ],
  [
    'two methods',
    'reset',
    [
      [':method', 'CONNECT'],
      [':method', 'GET'],
      [':authority', '10.0.0.1:80'],
    ],
  ],
  [
    'a pseudo field after others',
    'reset',
    [
      [':method', 'CONNECT'],
      ['baggage', 'x=y'],
      [':authority', '10.0.0.1:80'],
    ],
  ],
  [
    'an upper-case field name',
    'reset',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.1:80'],
      ['Baggage', 'x=y'],
    ],
  ],
  [
    'a connection field',
    'reset',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.1:80'],
      ['connection', 'close'],
    ],
  ],
];

for (const [what, outcome, fields] of REQUESTS) {
  test(`row 15: ${what} is refused and its neighbour on the session lives`, () =>
    inHostileWorld(async (world) => {
      const raw = await world.attacker();
      await raw.acknowledge();
      await openNeighbour(raw, world);
      const connects = world.connects();
      raw.send(TYPE.headers, END_HEADERS, 3, literals(fields));
      const type = outcome === '400' ? TYPE.headers : TYPE.reset;
      const answer = await raw.frame(outcome, (candidate) => candidate.type === type && candidate.streamId === 3);
      if (outcome === '400') {
        assert.ok((answer.flags & END_STREAM) !== 0);
        // Indexed field 12 of the static table: `:status: 400`.
        assert.equal(answer.payload[0], 0x8c);
        assert.equal(world.badRequests.length, 1);
      }
      assert.equal(world.connects(), connects);
      await useNeighbour(raw);
    }));
}

test('row 15: forged baggage and forwarded fields change no identity', () => {
  const seen: string[] = [];
  return inHostileWorld(
    async (world) => {
      const raw = await world.attacker();
      raw.connectRequest(1, world.echo, [
        ['baggage', 'k8s.namespace.name=kube-system'],
        ['forwarded', 'for=1.2.3.4'],
        ['x-forwarded-network', 'elsewhere'],
      ]);
      await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
      assert.deepEqual(seen, [CLIENT_ID, CLIENT_ID]);
    },
    {},
    (request) => {
      seen.push(request.peer.identity);
      return false;
    },
  );
});

test('row 15: request after bad request ends the session', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker();
    const block = literals([
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/'],
      [':authority', 'a:80'],
    ]);
    for (let index = 0; index < 200 && !raw.closed; index++) {
      raw.send(TYPE.headers, END_HEADERS | END_STREAM, 1 + index * 2, block);
    }
    await raw.goaway();
    await world.refused('H2_FLOOD');
  }));

async function openNeighbour(raw: RawHttp2, world: HostileWorld): Promise<void> {
  raw.connectRequest(1, world.echo);
  await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
}

async function useNeighbour(raw: RawHttp2): Promise<void> {
  raw.send(TYPE.data, 0, 1, Buffer.from('neighbour'));
  const echoed = await raw.frame('echo', (candidate) => candidate.type === TYPE.data && candidate.streamId === 1);
  assert.equal(echoed.payload.toString(), 'neighbour');
}
