/** Nothing of a tunnel, a session or a failure stays behind: memory is flat over tens of thousands of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { AmbitError } from '../../core/errors.ts';
import { getIp } from '../../core/ip.ts';
import { isSpiffeId } from '../../core/spiffe.ts';
import { TunnelPool } from '../../hbone/pool.ts';
import type { Tunnel, TunnelEnd } from '../../hbone/tunnel.ts';
import type { Arena } from '../../reactor/arena.ts';
import { WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { Http2Runtime } from '../../reactor/http2/runtime.ts';
import { TlsContext } from '../../reactor/tls/context.ts';
import { CLIENT_ID, CLIENT_MATERIAL, SERVER_ID, SERVER_MATERIAL } from '../support/hbone-contract.ts';
import { startOurServer } from '../support/hbone-peer-ours.ts';
import { RawHttp2, TYPE, uint32 } from '../support/raw-http2.ts';
import { until, withLoop } from '../support/reactor.ts';

const LOOPBACK = getIp('127.0.0.1');
const TUNNELS_PER_ROUND = 100;
const BODY_BYTES = 3000;
const ALLOWED_GROWTH_BYTES = 24 << 20;

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

/** Sends a body and ends, takes what comes (every other one in small portions), counts the tunnels that are over. */
class Client implements TunnelEnd {
  #left = BODY_BYTES;
  #refused = false;
  readonly #tunnel: Tunnel;
  readonly #slow: boolean;
  readonly #onOver: (received: number) => void;
  constructor(tunnel: Tunnel, slow: boolean, onOver: (received: number) => void) {
    this.#tunnel = tunnel;
    this.#slow = slow;
    this.#onOver = onOver;
  }
  fill(_arena: Arena, _offset: number, maxLength: number): number {
    const length = Math.min(this.#left, maxLength);
    this.#left -= length;
    return length;
  }
  take(_arena: Arena, _offset: number, length: number): number {
    if (!this.#slow) return length;
    this.#refused = !this.#refused;
    if (this.#refused) queueMicrotask(() => this.#tunnel.resumeReceiving());
    return this.#refused ? Math.floor(length / 2) : length;
  }
  onRemoteEnd(): void {}
  onClosed(): void {
    this.#onOver(this.#tunnel.bytesReceived);
  }
}

/** Echoes. */
class Server implements TunnelEnd {
  #owed = 0;
  #ended = false;
  readonly #tunnel: Tunnel;
  constructor(tunnel: Tunnel) {
    this.#tunnel = tunnel;
  }
  fill(_arena: Arena, _offset: number, maxLength: number): number {
    if (this.#owed === 0) return this.#ended ? 0 : WOULD_BLOCK;
    const length = Math.min(this.#owed, maxLength);
    this.#owed -= length;
    return length;
  }
  take(_arena: Arena, _offset: number, length: number): number {
    this.#owed += length;
    this.#tunnel.resumeSending();
    return length;
  }
  onRemoteEnd(): void {
    this.#ended = true;
    this.#tunnel.resumeSending();
  }
  onClosed(): void {}
}

test(
  'memory is flat over twenty thousand tunnels, a hundred sessions and hundreds of failures',
  { timeout: 60_000 },
  () =>
    withLoop(async (loop) => {
      const server = startOurServer(loop, SERVER_MATERIAL, {
        onConnect(request) {
          const tunnel = request.accept([]);
          tunnel.attach(new Server(tunnel));
        },
      });
      const tls = TlsContext.create('client', CLIENT_MATERIAL, { alpn: ['h2'], requirePeerCertificate: true });
      const runtime = Http2Runtime.of(loop);
      let pool = new TunnelPool(loop);
      const open = () =>
        new Promise<Tunnel>((resolve, reject) => {
          pool.open(
            {
              sourceIdentity: CLIENT_ID,
              expectedIdentities: isSpiffeId(SERVER_ID) ? [SERVER_ID] : [],
              dial: server.address,
              clientIp: LOOPBACK,
              tls: () => tls,
              authority: '10.0.0.1:80',
              headers: { baggage: 'k8s.namespace.name=test' },
            },
            { onOpen: resolve, onRefused: reject },
          );
        });
      const round = async (number: number) => {
        let over = 0;
        let exact = 0;
        const opened = await Promise.all(Array.from({ length: TUNNELS_PER_ROUND }, open));
        for (const [index, tunnel] of opened.entries()) {
          tunnel.attach(
            new Client(tunnel, index % 2 === 0, (received) => {
              over++;
              if (received === BODY_BYTES) exact++;
            }),
          );
          if (index % 10 === 9) tunnel.reset(new AmbitError('DRAINED', 'a failure'));
        }
        await until(loop, 'the round is over', () => over === TUNNELS_PER_ROUND);
        assert.equal(exact, TUNNELS_PER_ROUND * 0.9);
        // A session dies with its tunnels, and a new one takes its place.
        if (number % 2 === 1) {
          pool.close();
          const old = pool;
          await until(loop, 'the sessions are gone', () => old.stats.sessions === 0);
          pool = new TunnelPool(loop);
        }
        if (number % 10 === 0) {
          const raw = await RawHttp2.open(server.address, CLIENT_MATERIAL);
          raw.send(TYPE.windowUpdate, 0, 0, uint32(0));
          await raw.goaway();
          raw.destroy();
        }
      };
      for (let number = 0; number < 40; number++) await round(number);
      collect();
      const before = process.memoryUsage().rss;
      for (let number = 0; number < 200; number++) await round(number);
      collect();
      const growth = process.memoryUsage().rss - before;
      assert.ok(growth < ALLOWED_GROWTH_BYTES, `${growth} bytes more`);
      pool.close();
      await until(loop, 'all is closed', () => pool.stats.sessions === 0);
      await server.stop();
      tls.free();
      assert.equal(runtime.sessions.size, 0);
      assert.equal(runtime.heldBytes, 0);
      assert.equal(runtime.counters.sessionsOpened, runtime.counters.sessionsClosed);
      assert.ok(runtime.counters.streamsOpened >= 2 * 24_000);
    }),
);
