/**
 * What the tunnel library alone costs, both ends in one thread over loopback TLS: round trips of 100 bytes per CPU second, bulk
 * throughput of one tunnel, new tunnels per second, memory of an idle tunnel. `node bench/hbone-engine.ts [seconds]`
 */
import { getIp } from '../core/ip.ts';
import { isSpiffeId } from '../core/spiffe.ts';
import { TunnelPool } from '../hbone/pool.ts';
import { HboneServer } from '../hbone/server.ts';
import type { Tunnel, TunnelEnd } from '../hbone/tunnel.ts';
import type { Arena } from '../reactor/arena.ts';
import { WOULD_BLOCK } from '../reactor/byte-channel.ts';
import { EventLoop } from '../reactor/loop.ts';
import { listenTcp } from '../reactor/tcp-listen.ts';
import { TlsContext } from '../reactor/tls/context.ts';
import { createAuthority } from '../test/support/pki.ts';

const SECONDS = Number(process.argv[2] ?? 3);
const MESSAGE_BYTES = 100;
const LOOPBACK = getIp('127.0.0.1');
const SERVER_ID = 'spiffe://cluster.local/ns/b/sa/server';
if (!isSpiffeId(SERVER_ID)) throw new Error('identity');

const root = createAuthority();
const material = (uri: string) => ({ ...root.issue({ uris: [uri] }), rootsPem: root.pem });
const options = { alpn: ['h2'], requirePeerCertificate: true } as const;
const serverTls = TlsContext.create('server', material(SERVER_ID), options);
const clientTls = TlsContext.create('client', material('spiffe://cluster.local/ns/a/sa/client'), options);

const loop = EventLoop.open();
let release = loop.keepAsyncAlive();
const ended = loop.run();
const server = new HboneServer<string>(loop, {
  tls: () => serverTls,
  trustDomain: 'cluster.local',
  onSessionRefused: (facts) => console.error('refused', facts.error.message),
  onConnect(request) {
    const tunnel = request.accept([]);
    tunnel.attach(request.authority.endsWith(':9') ? new Sink() : new Echo(tunnel));
  },
});
const listener = listenTcp(loop, { port: 0, ip: LOOPBACK }, (socket) => server.accept(socket, 'pod'));
const pool = new TunnelPool(loop, { sessionsPerPeer: 200 });

/** Answers every byte, as many as came. */
class Echo implements TunnelEnd {
  #owed = 0;
  #ended = false;
  readonly #tunnel: Tunnel;
  constructor(tunnel: Tunnel) {
    this.#tunnel = tunnel;
  }
  fill(_arena: Arena, _offset: number, maxLength: number): number {
    if (this.#owed === 0) return this.#ended ? 0 : WOULD_BLOCK;
    const length = Math.min(maxLength, this.#owed);
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

class Sink implements TunnelEnd {
  fill(): number {
    return WOULD_BLOCK;
  }
  take(_arena: Arena, _offset: number, length: number): number {
    bulkBytes += length;
    return length;
  }
  onRemoteEnd(): void {}
  onClosed(): void {}
}

/** Sends a message whenever the last one has come back. */
class Ping implements TunnelEnd {
  #toSend = MESSAGE_BYTES;
  #missing = MESSAGE_BYTES;
  #ended = false;
  tunnel: Tunnel | undefined;
  fill(_arena: Arena, _offset: number, _maxLength: number): number {
    if (this.#ended) return 0;
    if (this.#toSend === 0) return WOULD_BLOCK;
    this.#toSend = 0;
    return MESSAGE_BYTES;
  }
  take(_arena: Arena, _offset: number, length: number): number {
    this.#missing -= length;
    if (this.#missing > 0) return length;
    roundTrips++;
    this.#missing = MESSAGE_BYTES;
    this.#toSend = MESSAGE_BYTES;
    this.#ended = !pinging;
    this.tunnel?.resumeSending();
    return length;
  }
  onRemoteEnd(): void {}
  onClosed(): void {}
}

class Flood implements TunnelEnd {
  fill(_arena: Arena, _offset: number, maxLength: number): number {
    return flooding ? maxLength : 0;
  }
  take(_arena: Arena, _offset: number, length: number): number {
    return length;
  }
  onRemoteEnd(): void {}
  onClosed(): void {}
}

class Idle implements TunnelEnd {
  fill(): number {
    return WOULD_BLOCK;
  }
  take(_arena: Arena, _offset: number, length: number): number {
    return length;
  }
  onRemoteEnd(): void {}
  onClosed(): void {}
}

let roundTrips = 0;
let pinging = true;
let bulkBytes = 0;
let flooding = true;

function open(authority: string): Promise<Tunnel> {
  return new Promise((resolve, reject) => {
    pool.open(
      {
        sourceIdentity: 'bench',
        expectedIdentities: isSpiffeId(SERVER_ID) ? [SERVER_ID] : [],
        dial: listener.address,
        clientIp: LOOPBACK,
        tls: () => clientTls,
        authority,
        headers: {},
      },
      { onOpen: resolve, onRefused: reject },
    );
  });
}

const pause = (ms: number) => new Promise<void>((resolve) => void loop.setTimer(ms, resolve));

for (const tunnels of [1, 16, 64]) {
  pinging = true;
  for (let index = 0; index < tunnels; index++) {
    const tunnel = await open('10.0.0.1:7');
    const ping = new Ping();
    ping.tunnel = tunnel;
    tunnel.attach(ping);
  }
  release();
  await pause(500);
  roundTrips = 0;
  const cpu = process.cpuUsage();
  const start = performance.now();
  await pause(SECONDS * 1000);
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - start) / 1000;
  const cpuSeconds = (used.user + used.system) / 1e6;
  console.log(
    `${tunnels} tunnels: ${Math.round(roundTrips / seconds)} round trips/s, ${Math.round(roundTrips / cpuSeconds)} per CPU second of both ends`,
  );
  pinging = false;
  release = loop.keepAsyncAlive();
  await pause(200);
}

(await open('10.0.0.1:9')).attach(new Flood());
release();
await pause(300);
bulkBytes = 0;
const cpu = process.cpuUsage();
const start = performance.now();
await pause(SECONDS * 1000);
const used = process.cpuUsage(cpu);
const gigabits = (bulkBytes * 8) / 1e9;
console.log(
  `bulk, one tunnel: ${(gigabits / ((performance.now() - start) / 1000)).toFixed(2)} Gb/s, ${(gigabits / ((used.user + used.system) / 1e6)).toFixed(2)} Gb per CPU second of both ends`,
);
flooding = false;
release = loop.keepAsyncAlive();
await pause(200);

const openStart = performance.now();
const IDLE = 10_000;
globalThis.gc?.();
const rssBefore = process.memoryUsage().rss;
for (let index = 0; index < IDLE / 50; index++) {
  const tunnels = await Promise.all(Array.from({ length: 50 }, () => open('10.0.0.1:7')));
  for (const tunnel of tunnels) tunnel.attach(new Idle());
}
console.log(`new tunnels: ${Math.round(IDLE / ((performance.now() - openStart) / 1000))}/s`);
globalThis.gc?.();
await pause(1000);
console.log(
  `idle tunnel: ${Math.round((process.memoryUsage().rss - rssBefore) / IDLE)} bytes for both ends (${pool.stats.sessions} sessions)`,
);
release();
pool.close();
listener.close();
server.close();
await pause(3000);
loop.stop();
await ended;
loop.close();
