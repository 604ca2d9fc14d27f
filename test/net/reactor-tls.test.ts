import assert from 'node:assert/strict';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createServer, connect as nodeConnect, type TLSSocket } from 'node:tls';
import { AmbitError } from '../../core/errors.ts';
import { getIp } from '../../core/ip.ts';
import { Arena } from '../../reactor/arena.ts';
import { READABLE, WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { TlsConnection } from '../../reactor/tls/connection.ts';
import { TlsContext, type TlsMaterial } from '../../reactor/tls/context.ts';
import type { TlsSession } from '../../reactor/tls/session.ts';
import { createAuthority, type LeafOptions } from '../support/pki.ts';
import { connected, deferred, listening, receive, send, socketPair, until, withLoop } from '../support/reactor.ts';

const ROOT = createAuthority();
const OTHER_ROOT = createAuthority('other root');
const CLIENT_ID = 'spiffe://cluster.local/ns/a/sa/client';
const SERVER_ID = 'spiffe://cluster.local/ns/b/sa/server';

function material(uri: string, options: LeafOptions = {}, issuer = ROOT, roots = ROOT): TlsMaterial {
  return { ...issuer.issue({ uris: [uri], ...options }), rootsPem: roots.pem };
}

const CLIENT = material(CLIENT_ID);
const SERVER = material(SERVER_ID);

function context(
  role: 'client' | 'server',
  from: TlsMaterial,
  options: { alpn?: string[]; ticketKeys?: Uint8Array } = {},
) {
  return TlsContext.create(role, from, { alpn: ['h2'], requirePeerCertificate: true, ...options });
}

function secure(loop: EventLoop, socket: TcpSocket, from: TlsContext, resume?: TlsSession): Promise<TlsConnection> {
  const { promise, resolve, reject } = deferred<TlsConnection>('TLS handshake');
  new TlsConnection(loop, socket, from, {
    timeoutMs: 5000,
    onSecure: resolve,
    onHandshakeFailed: reject,
    ...(resume === undefined ? {} : { resume }),
  });
  return promise;
}

async function securePair(
  loop: EventLoop,
  a = CLIENT,
  b = SERVER,
): Promise<[client: TlsConnection, server: TlsConnection]> {
  const [clientSocket, serverSocket] = await socketPair(loop);
  const contexts = [context('client', a), context('server', b)] as const;
  const pair = await Promise.all([secure(loop, clientSocket, contexts[0]), secure(loop, serverSocket, contexts[1])]);
  for (const used of contexts) used.free();
  return pair;
}

/** Both outcomes of a handshake that at least one side refuses; a client may learn of it with its first read. */
async function refusal(loop: EventLoop, a: TlsContext, b: TlsContext): Promise<{ client: string; server: string }> {
  const [clientSocket, serverSocket] = await socketPair(loop);
  const clientEnd = secure(loop, clientSocket, a).then(async (connection) => {
    const { end } = await receive(connection);
    const reason = `read ${end}: ${connection.failureReason}`;
    connection.close();
    return reason;
  }, asText);
  const serverEnd = secure(loop, serverSocket, b).then((connection) => {
    connection.close();
    return 'secure';
  }, asText);
  const [client, server] = await Promise.all([clientEnd, serverEnd]);
  a.free();
  b.free();
  return { client, server };
}

function asText(error: unknown): string {
  return error instanceof AmbitError ? `${error.code}: ${error.message}` : String(error);
}

test('two ends authenticate each other, agree on h2 and a post-quantum group, and exchange bytes both ways', () =>
  withLoop(async (loop) => {
    const [client, server] = await securePair(loop);
    for (const end of [client, server]) {
      assert.equal(end.alpn, 'h2');
      assert.equal(end.group, 'X25519MLKEM768');
      assert.equal(end.resumed, false);
    }
    assert.equal(uriOf(server.peerCertificates()), CLIENT_ID);
    assert.equal(uriOf(client.peerCertificates()), SERVER_ID);
    const forth = randomBytes(5_000_000);
    const [sent, got] = await Promise.all([send(client, forth), receive(server, forth.length)]);
    assert.equal(sent, forth.length);
    assert.ok(got.bytes.equals(forth));
    client.shutdownWrite();
    assert.equal((await receive(server)).end, 0);
    const back = randomBytes(300_000);
    const [, answer] = await Promise.all([send(server, back).then(() => server.shutdownWrite()), receive(client)]);
    assert.ok(answer.bytes.equals(back));
    assert.equal(answer.end, 0);
    client.close();
    server.close();
  }));

test('a chain with an intermediate verifies and is handed out leaf first', () =>
  withLoop(async (loop) => {
    const issuing = ROOT.intermediate('issuing');
    const [client, server] = await securePair(loop, material(CLIENT_ID, {}, issuing), material(SERVER_ID, {}, issuing));
    for (const end of [client, server]) {
      const chain = end.peerCertificates().map((der) => new X509Certificate(der));
      assert.equal(chain.length, 2);
      assert.equal(chain[1]?.subject, 'CN=issuing');
      end.close();
    }
  }));

test('a reader that pauses with bytes left inside OpenSSL gets the event again when it resumes', () =>
  withLoop(async (loop) => {
    const [client, server] = await securePair(loop);
    const bytes = randomBytes(40_000);
    await send(client, bytes);
    const parts: Buffer[] = [];
    for (let left = bytes.length; left > 0; left -= 1000) parts.push((await receive(server, 1000, 1000)).bytes);
    assert.ok(Buffer.concat(parts).equals(bytes));
    client.close();
    server.close();
  }));

const refusals: readonly {
  name: string;
  client?: TlsMaterial;
  server?: TlsMaterial;
  expectClient: RegExp;
  expectServer: RegExp;
}[] = [
  {
    name: 'a client of another root is refused by the server',
    client: material(CLIENT_ID, {}, OTHER_ROOT, ROOT),
    expectClient: /^read -71: .*alert unknown ca/,
    expectServer: /^TLS_HANDSHAKE: certificate verify failed: unable to get local issuer certificate$/,
  },
  {
    name: 'an expired client certificate is refused by the server',
    client: material(CLIENT_ID, { notAfter: new Date(Date.now() - 1000) }),
    expectClient: /^read -71: .*certificate expired/,
    expectServer: /^TLS_HANDSHAKE: certificate verify failed: certificate has expired$/,
  },
  {
    name: 'a client certificate that is not yet valid is refused by the server',
    client: material(CLIENT_ID, { notBefore: new Date(Date.now() + 3_000_000) }),
    expectClient: /^read -71: .*alert/,
    expectServer: /^TLS_HANDSHAKE: certificate verify failed: certificate is not yet valid$/,
  },
  {
    name: 'a server of another root is refused by the client',
    server: material(SERVER_ID, {}, OTHER_ROOT, ROOT),
    expectClient: /^TLS_HANDSHAKE: certificate verify failed: unable to get local issuer certificate$/,
    expectServer: /^TLS_HANDSHAKE: .*alert unknown ca$/,
  },
];

for (const row of refusals) {
  test(row.name, () =>
    withLoop(async (loop) => {
      const outcome = await refusal(
        loop,
        context('client', row.client ?? CLIENT),
        context('server', row.server ?? SERVER),
      );
      assert.match(outcome.client, row.expectClient);
      assert.match(outcome.server, row.expectServer);
    }),
  );
}

test('a client that offers only other protocols is refused', () =>
  withLoop(async (loop) => {
    const outcome = await refusal(loop, context('client', CLIENT, { alpn: ['http/1.1'] }), context('server', SERVER));
    assert.match(outcome.client, /alert no application protocol/);
    assert.match(outcome.server, /no application protocol/);
  }));

test('the server picks its own preference among the offered protocols', () =>
  withLoop(async (loop) => {
    const [a, b] = await socketPair(loop);
    const client = context('client', CLIENT, { alpn: ['http/1.1', 'h3', 'h2'] });
    const server = context('server', SERVER, { alpn: ['istio', 'h2', 'http/1.1'] });
    const ends = await Promise.all([secure(loop, a, client), secure(loop, b, server)]);
    for (const end of ends) {
      assert.equal(end.alpn, 'h2');
      end.close();
    }
    client.free();
    server.free();
  }));

test("a client on node:tls without a certificate is refused and Node's peers with one are served", () =>
  withLoop(async (loop) => {
    const { listener, address, accepted } = listening(loop);
    const server = context('server', SERVER);
    const trust = { ca: ROOT.pem, checkServerIdentity: () => undefined, ALPNProtocols: ['h2'] };
    const anonymous = nodeConnect({ port: address.port, host: '127.0.0.1', ...trust });
    const refused = deferred<Error>('alert');
    anonymous.on('error', refused.resolve);
    await assert.rejects(secure(loop, await accepted(), server), /peer did not return a certificate/);
    assert.match((await refused.promise).message, /certificate required/);
    const old = nodeConnect({ port: address.port, host: '127.0.0.1', ...trust, maxVersion: 'TLSv1.2' });
    old.on('error', () => {});
    await assert.rejects(secure(loop, await accepted(), server), /unsupported protocol/);
    const known = nodeConnect({
      port: address.port,
      host: '127.0.0.1',
      ...trust,
      cert: CLIENT.certificateChainPem,
      key: CLIENT.privateKeyPem,
    });
    const ours = await secure(loop, await accepted(), server);
    known.write(Buffer.alloc(200_000, 'x'));
    assert.equal((await receive(ours, 200_000)).bytes.length, 200_000);
    const heard = deferred<string>('answer');
    known.once('data', (bytes) => heard.resolve(bytes.toString()));
    await send(ours, Buffer.from('answer'));
    assert.equal(await heard.promise, 'answer');
    known.end();
    assert.equal((await receive(ours)).end, 0);
    ours.close();
    listener.close();
    server.free();
  }));

test('as a client it talks to a server on node:tls, which sees our certificate', () =>
  withLoop(async (loop) => {
    const seen = deferred<string>('peer certificate');
    const server = createServer(
      {
        cert: SERVER.certificateChainPem,
        key: SERVER.privateKeyPem,
        ca: ROOT.pem,
        requestCert: true,
        rejectUnauthorized: true,
        ALPNProtocols: ['h2'],
        ecdhCurve: 'P-384',
      },
      (socket: TLSSocket) => {
        seen.resolve(socket.getPeerX509Certificate()?.subjectAltName ?? '');
        socket.pipe(socket);
      },
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const client = context('client', CLIENT);
    const socket = await connected(loop, { to: { ip: getIp('127.0.0.1'), port } });
    const connection = await secure(loop, socket, client);
    assert.match(connection.group, /secp384r1|P-384/);
    assert.equal(await seen.promise, `URI:${CLIENT_ID}`);
    const bytes = randomBytes(60_000);
    await send(connection, bytes);
    assert.ok((await receive(connection, bytes.length)).bytes.equals(bytes));
    connection.close();
    client.free();
    await new Promise((resolve) => server.close(resolve));
  }));

async function resume(
  loop: EventLoop,
  clientContext: TlsContext,
  serverContext: TlsContext,
  session?: TlsSession,
): Promise<{ resumed: boolean; session: TlsSession; chains: string[]; groups: string }> {
  const [a, b] = await socketPair(loop);
  const ticket = deferred<TlsSession>('session ticket');
  const [client, server] = await Promise.all([secure(loop, a, clientContext, session), secure(loop, b, serverContext)]);
  client.onSession = ticket.resolve;
  await send(server, Buffer.from('x'));
  await receive(client, 1);
  assert.equal(client.resumed, server.resumed);
  const result = {
    resumed: client.resumed,
    session: await ticket.promise,
    chains: [uriOf(client.peerCertificates()), uriOf(server.peerCertificates())],
    groups: `${client.group} ${server.group}`,
  };
  client.close();
  server.close();
  return result;
}

test('a session resumes at another context with the same ticket keys, and both chains are still known', () =>
  withLoop(async (loop) => {
    const ticketKeys = randomBytes(80);
    const client = context('client', CLIENT);
    const [first, second] = [context('server', SERVER, { ticketKeys }), context('server', SERVER, { ticketKeys })];
    const begun = await resume(loop, client, first);
    assert.equal(begun.resumed, false);
    first.free();
    const again = await resume(loop, client, second, begun.session);
    assert.equal(again.resumed, true);
    assert.deepEqual(again.chains, [SERVER_ID, CLIENT_ID]);
    assert.equal(again.groups, 'X25519MLKEM768 X25519MLKEM768', 'a resumption still exchanges keys');
    second.free();
    client.free();
  }));

test('a session does not resume with other ticket keys, at another server identity, or for another client identity', () =>
  withLoop(async (loop) => {
    const ticketKeys = randomBytes(80);
    const client = context('client', CLIENT);
    const server = context('server', SERVER, { ticketKeys });
    const { session } = await resume(loop, client, server);
    const strangers = [
      context('server', SERVER, { ticketKeys: randomBytes(80) }),
      context('server', material('spiffe://cluster.local/ns/b/sa/somebody-else'), { ticketKeys }),
      context('server', { ...SERVER, rootsPem: ROOT.pem + OTHER_ROOT.pem }, { ticketKeys }),
    ];
    for (const stranger of strangers) {
      assert.equal((await resume(loop, client, stranger, session)).resumed, false);
      stranger.free();
    }
    const otherClient = context('client', material('spiffe://cluster.local/ns/a/sa/other'));
    assert.equal((await resume(loop, otherClient, server, session)).resumed, false);
    const garbage = { encoded: randomBytes(300), scope: client.scope };
    assert.equal((await resume(loop, client, server, garbage)).resumed, false);
    for (const used of [client, otherClient, server]) used.free();
  }));

test('a resumed session ends with the certificate of the peer', () =>
  withLoop(async (loop) => {
    const ticketKeys = randomBytes(80);
    const brief = context(
      'client',
      material(CLIENT_ID, { notAfter: new Date(Math.ceil(Date.now() / 1000) * 1000 + 1000) }),
    );
    const server = context('server', SERVER, { ticketKeys });
    const begun = await resume(loop, brief, server);
    const expired = deferred<void>('expiry');
    loop.setTimer(2100, () => expired.resolve());
    await expired.promise;
    const [a, b] = await socketPair(loop);
    const clientEnd = secure(loop, a, brief, begun.session).then(
      (connection) => connection.close(),
      () => {},
    );
    await assert.rejects(secure(loop, b, server), /certificate has expired/);
    await clientEnd;
    brief.free();
    server.free();
  }));

test('a peer that says nothing ends in TLS_TIMEOUT, in both roles', () =>
  withLoop(async (loop) => {
    const contexts = [context('client', CLIENT), context('server', SERVER)];
    for (const used of contexts) {
      const [silent, ours] = await socketPair(loop);
      const { promise, resolve } = deferred<AmbitError>('timeout');
      new TlsConnection(loop, ours, used, {
        timeoutMs: 50,
        onSecure: () => assert.fail('secure'),
        onHandshakeFailed: resolve,
      });
      const error = await promise;
      assert.equal(error.code, 'TLS_TIMEOUT');
      assert.ok(ours.closed);
      silent.close();
      used.free();
    }
  }));

test('bytes that are not TLS fail the handshake with a reason', () =>
  withLoop(async (loop) => {
    const server = context('server', SERVER);
    const rows: [bytes: Buffer, reason: RegExp][] = [
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), /http request/],
      [Buffer.alloc(64, 0xff), /TLS_HANDSHAKE|wrong version number|packet length too long|unsupported/],
      [Buffer.from('160301400001', 'hex'), /TLS_HANDSHAKE|closed|eof|length/],
    ];
    for (const [bytes, reason] of rows) {
      const [hostile, ours] = await socketPair(loop);
      const outcome = secure(loop, ours, server).then(() => 'secure', asText);
      await send(hostile, bytes);
      hostile.shutdownWrite();
      assert.match(await outcome, /^TLS_HANDSHAKE: /);
      assert.match(await outcome, reason);
      hostile.close();
    }
    server.free();
  }));

test('a peer that resets or leaves during the handshake fails it', () =>
  withLoop(async (loop) => {
    const server = context('server', SERVER);
    for (const [how, reason] of [
      ['abort', /ECONNRESET/],
      ['close', /eof|closed/],
    ] as const) {
      const [hostile, ours] = await socketPair(loop);
      const outcome = secure(loop, ours, server).then(() => 'secure', asText);
      hostile[how]();
      assert.match(await outcome, reason);
    }
    server.free();
  }));

test('a reset and a TCP end without close_notify after the handshake are told apart from an orderly end', () =>
  withLoop(async (loop) => {
    const rows: [what: string, act: (client: TlsConnection) => void, end: number][] = [
      ['abort', (client) => client.abort(), -104],
      ['FIN without close_notify', (client) => client.tcp.shutdownWrite(), -104],
      ['orderly', (client) => client.close(), 0],
    ];
    for (const [what, act, end] of rows) {
      const [client, server] = await securePair(loop);
      const pending = receive(server);
      act(client);
      assert.equal((await pending).end, end, what);
      client.close();
      server.close();
    }
  }));

test('what a write accepted arrives although the connection is closed at once and the peer reads late', () =>
  withLoop(async (loop) => {
    const [client, server] = await securePair(loop);
    const arena = new Arena(1 << 17);
    arena.bytes.set(randomBytes(arena.byteLength));
    const digest = createHash('sha256');
    let accepted = 0;
    for (;;) {
      const count = client.write(arena, 0, arena.byteLength);
      if (count === WOULD_BLOCK) break;
      digest.update(arena.bytes.subarray(0, count));
      accepted += count;
    }
    client.close();
    assert.ok(client.closed);
    assert.throws(() => client.write(arena, 0, 1), /closed/);
    const got = await receive(server);
    assert.equal(got.bytes.length, accepted);
    assert.equal(got.end, 0, 'the end is a close_notify');
    assert.equal(createHash('sha256').update(got.bytes).digest('hex'), digest.digest('hex'));
    server.close();
    arena.free();
  }));

test('a closed connection gives up sending when the peer never reads', (t) =>
  withLoop(async (loop) => {
    const [client, server] = await securePair(loop);
    const arena = new Arena(1 << 17);
    while (client.write(arena, 0, arena.byteLength) !== WOULD_BLOCK);
    t.mock.method(loop, 'setTimer', (_delayMs: number, handler: () => void) => {
      t.mock.reset();
      return loop.setTimer(20, handler);
    });
    client.close();
    assert.ok(!client.tcp.closed);
    await until(loop, 'the socket is closed', () => client.tcp.closed);
    server.close();
    arena.free();
  }));

test('an innocent connection is untouched by failing ones on the same loop', () =>
  withLoop(async (loop) => {
    const [client, server] = await securePair(loop);
    const bytes = randomBytes(2_000_000);
    const transfer = Promise.all([send(client, bytes), receive(server, bytes.length)]);
    for (let i = 0; i < 10; i++) {
      const failing = context('client', material(CLIENT_ID, {}, OTHER_ROOT, ROOT));
      assert.match((await refusal(loop, failing, context('server', SERVER))).server, /verify failed/);
    }
    const [, got] = await transfer;
    assert.ok(got.bytes.equals(bytes));
    client.close();
    server.close();
  }));

test('a connection may be closed inside each of its callbacks', () =>
  withLoop(async (loop) => {
    const serverContext = context('server', SERVER, { ticketKeys: randomBytes(80) });
    const clientContext = context('client', CLIENT);
    const arena = new Arena(100);
    for (const where of ['onSession', 'onReadable', 'onSecure']) {
      const [a, b] = await socketPair(loop);
      const done = deferred<void>(where);
      const finish = (connection: TlsConnection) => {
        connection.abort();
        done.resolve();
      };
      const client: TlsConnection = new TlsConnection(loop, a, clientContext, {
        timeoutMs: 5000,
        onSecure() {
          if (where === 'onSecure') return finish(client);
          client.owner = {
            onReadable() {
              if (where === 'onReadable') return finish(client);
              const count = client.read(arena, 0, 100);
              assert.ok(client.closed || count === WOULD_BLOCK);
            },
            onWritable() {},
            onBroken() {},
          };
          client.onSession = () => finish(client);
          client.setInterest(READABLE);
        },
        onHandshakeFailed: done.reject,
      });
      const server = secure(loop, b, serverContext).then(
        (connection) => connection.close(),
        () => {},
      );
      await done.promise;
      await server;
      assert.ok(client.closed);
    }
    arena.free();
    clientContext.free();
    serverContext.free();
  }));

test('wrong use of contexts and connections throws', () =>
  withLoop(async (loop) => {
    const configuration = (work: () => unknown, reason: RegExp) =>
      assert.throws(work, (e) => e instanceof AmbitError && e.code === 'CONFIGURATION' && reason.test(e.message));
    configuration(() => context('client', { ...CLIENT, certificateChainPem: 'nonsense' }), /cannot be parsed/);
    configuration(() => context('client', { ...CLIENT, privateKeyPem: 'nonsense' }), /private key/);
    configuration(() => context('client', { ...CLIENT, privateKeyPem: SERVER.privateKeyPem }), /key values mismatch/);
    configuration(() => context('client', { ...CLIENT, rootsPem: '' }), /roots/);
    configuration(() => context('server', SERVER, { ticketKeys: randomBytes(48) }), /ticket keys/);
    configuration(() => context('server', SERVER, { alpn: [''] }), /ALPN/);
    const freed = context('client', CLIENT);
    freed.free();
    freed.free();
    const [a, b] = await socketPair(loop);
    const nobody = { timeoutMs: 1000, onSecure() {}, onHandshakeFailed() {} };
    const is = (code: string) => (error: unknown) => error instanceof AmbitError && error.code === code;
    assert.throws(() => new TlsConnection(loop, a, freed, nobody), is('CLOSED'));
    const server = context('server', SERVER);
    const early = new TlsConnection(loop, b, server, nobody);
    const arena = new Arena(8);
    assert.throws(() => early.read(arena, 0, 8), is('USAGE'));
    assert.throws(() => early.write(arena, 0, 9), is('USAGE'));
    early.close();
    early.close();
    early.abort();
    early.shutdownWrite();
    assert.throws(() => early.read(arena, 0, 8), is('CLOSED'));
    assert.throws(() => early.setInterest(1), is('CLOSED'));
    assert.throws(() => early.peerCertificates(), is('CLOSED'));
    assert.throws(() => new TlsConnection(loop, b, server, nobody), is('CLOSED'));
    const [client, peer] = await securePair(loop);
    client.shutdownWrite();
    assert.throws(() => client.write(arena, 0, 8), is('USAGE'));
    client.close();
    peer.close();
    a.close();
    server.free();
    arena.free();
  }));

function uriOf(chain: Uint8Array[]): string {
  const [leaf] = chain;
  return leaf === undefined ? 'none' : (new X509Certificate(leaf).subjectAltName ?? '').replace('URI:', '');
}
