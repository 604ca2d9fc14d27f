/** Thousands of connections through every way they can end; afterwards the process is as large as before. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { SocketAddress } from '../../core/ip.ts';
import { Arena } from '../../reactor/arena.ts';
import { type ChannelOwner, READABLE, WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import { connectTcp } from '../../reactor/tcp-connect.ts';
import { listenTcp } from '../../reactor/tcp-listen.ts';
import { TlsConnection, type TlsHandshake } from '../../reactor/tls/connection.ts';
import { TlsContext } from '../../reactor/tls/context.ts';
import type { TlsSession } from '../../reactor/tls/session.ts';
import { createAuthority } from '../support/pki.ts';
import { deferred, openDescriptors, withLoop } from '../support/reactor.ts';

const ROUNDS = 6;
const CYCLES = 300;
const PARALLEL = 8;
/** Bytes a full cycle sends each way: more than one record, so that every way of writing is used. */
const BYTES = 40_000;
const MAX_GROWTH_BYTES = 6 << 20;

setFlagsFromString('--expose-gc');
const collect: unknown = runInNewContext('gc');

/** Own memory. Pages of files, which come and go with what other processes do, are left out. */
function residentBytes(): number {
  if (typeof collect === 'function') collect();
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}

type Ending = 'full' | 'resumed' | 'abort' | 'silence' | 'untrusted' | 'garbage';
const ENDINGS: readonly Ending[] = ['full', 'resumed', 'full', 'abort', 'untrusted', 'silence', 'full', 'garbage'];

class Soak {
  readonly #loop: EventLoop;
  readonly #arena = new Arena(65_536);
  readonly #authority = createAuthority();
  readonly #server: TlsContext;
  readonly #client: TlsContext;
  readonly #untrusted: TlsContext;
  #session: TlsSession | undefined = undefined;
  readonly counts = { full: 0, resumed: 0, failed: 0 };

  constructor(loop: EventLoop) {
    this.#loop = loop;
    const rootsPem = this.#authority.pem;
    const options = { alpn: ['h2'], requirePeerCertificate: true } as const;
    this.#server = TlsContext.create(
      'server',
      { ...this.#authority.issue(), rootsPem },
      { ...options, ticketKeys: randomBytes(80) },
    );
    this.#client = TlsContext.create('client', { ...this.#authority.issue(), rootsPem }, options);
    this.#untrusted = TlsContext.create('client', { ...createAuthority('other').issue(), rootsPem }, options);
  }

  /** One listener, `cycles` connections, `PARALLEL` at a time. */
  async round(cycles: number): Promise<void> {
    const done = deferred<void>('round');
    let open = 0;
    let left = cycles;
    const listener = listenTcp(this.#loop, { port: 0 }, (socket) => {
      const handshake: TlsHandshake = {
        timeoutMs: 5000,
        onSecure: (connection) => this.#echo(connection),
        onHandshakeFailed: () => {
          this.counts.failed++;
        },
      };
      new TlsConnection(this.#loop, socket, this.#server, handshake);
    });
    const next = () => {
      if (left === 0) {
        if (open === 0) done.resolve();
        return;
      }
      open++;
      left--;
      this.#cycle(listener.address, ENDINGS[left % ENDINGS.length] ?? 'full', () => {
        open--;
        next();
      });
    };
    for (let i = 0; i < PARALLEL; i++) next();
    await done.promise;
    listener.close();
  }

  free(): void {
    for (const context of [this.#server, this.#client, this.#untrusted]) context.free();
    this.#arena.free();
  }

  /** Sends back what comes until the end, then closes. */
  #echo(connection: TlsConnection): void {
    const arena = this.#arena;
    const owner: ChannelOwner = {
      onReadable() {
        const count = connection.read(arena, 0, arena.byteLength);
        if (count === WOULD_BLOCK) return;
        if (count <= 0 || connection.write(arena, 0, count) !== count) connection.close();
      },
      onWritable() {},
      onBroken: () => connection.close(),
    };
    connection.owner = owner;
    connection.setInterest(READABLE);
  }

  #cycle(to: SocketAddress, ending: Ending, end: () => void): void {
    const loop = this.#loop;
    connectTcp(
      loop,
      { to: { ip: to.ip, port: to.port } },
      {
        onConnectFailed: (error) => assert.fail(error.message),
        onConnected: (socket) => {
          if (ending === 'silence' || ending === 'garbage') {
            if (ending === 'garbage') socket.write(this.#arena, 0, 300);
            loop.setTimer(2, () => {
              socket.close();
              end();
            });
            return;
          }
          const resume = ending === 'resumed' ? this.#session : undefined;
          new TlsConnection(loop, socket, ending === 'untrusted' ? this.#untrusted : this.#client, {
            timeoutMs: 5000,
            onSecure: (connection) => {
              connection.peerCertificates();
              if (connection.resumed) this.counts.resumed++;
              if (ending === 'abort') {
                connection.abort();
                end();
              } else this.#exchange(connection, end);
            },
            onHandshakeFailed: (error) => assert.fail(error.message),
            ...(resume === undefined ? {} : { resume }),
          });
        },
      },
    );
  }

  #exchange(connection: TlsConnection, end: () => void): void {
    const arena = this.#arena;
    let received = 0;
    const finish = () => {
      connection.close();
      end();
    };
    connection.onSession = (session) => {
      this.#session = session;
    };
    connection.owner = {
      onReadable: () => {
        const count = connection.read(arena, 0, arena.byteLength);
        if (count === WOULD_BLOCK) return;
        if (count <= 0) return finish();
        received += count;
        if (received >= BYTES) {
          this.counts.full++;
          finish();
        }
      },
      onWritable() {},
      onBroken: finish,
    };
    connection.setInterest(READABLE);
    connection.write(arena, 0, BYTES);
  }
}

test('thousands of connections, good and bad, leave neither memory nor descriptors behind', () =>
  withLoop(async (loop) => {
    const soak = new Soak(loop);
    const sizes: number[] = [];
    let descriptors = 0;
    for (let round = 0; round < ROUNDS; round++) {
      await soak.round(CYCLES);
      await settled(loop, soak);
      sizes.push(residentBytes());
      if (round === 1) descriptors = openDescriptors();
    }
    const cycles = ROUNDS * CYCLES;
    assert.ok(soak.counts.full > cycles * 0.4, `only ${soak.counts.full} of ${cycles} were complete`);
    assert.ok(soak.counts.resumed > cycles * 0.08, `only ${soak.counts.resumed} were resumed`);
    assert.ok(soak.counts.failed > cycles * 0.3, `only ${soak.counts.failed} handshakes failed`);
    assert.equal(openDescriptors(), descriptors);
    const growth = (sizes.at(-1) ?? 0) - (sizes[1] ?? 0);
    const text = sizes.map((size) => `${(size / 2 ** 20).toFixed(1)} MiB`).join(', ');
    assert.ok(growth < MAX_GROWTH_BYTES, `resident after each round: ${text}`);
    soak.free();
  }));

/** Waits until the server has judged everything that was begun. */
async function settled(loop: EventLoop, soak: Soak): Promise<void> {
  const done = deferred<void>('settled');
  let failed = -1;
  const look = () => {
    if (failed === soak.counts.failed) return done.resolve();
    failed = soak.counts.failed;
    loop.setTimer(20, look);
  };
  look();
  await done.promise;
}
