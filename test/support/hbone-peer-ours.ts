/** This library as a peer of the contract suite, on a loop that runs in the test's thread. */
import { AmbitError } from '../../core/errors.ts';
import { getIp, parseAuthority, type SocketAddress } from '../../core/ip.ts';
import { isSpiffeId } from '../../core/spiffe.ts';
import { TunnelPool, type TunnelPoolOptions } from '../../hbone/pool.ts';
import { HboneServer, type HboneServerOptions, type TunnelRequest } from '../../hbone/server.ts';
import { spliceTunnel } from '../../hbone/splice.ts';
import { Arena } from '../../reactor/arena.ts';
import { READABLE, WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import { connectTcp } from '../../reactor/tcp-connect.ts';
import { listenTcp, type TcpListener } from '../../reactor/tcp-listen.ts';
import type { TcpSocket } from '../../reactor/tcp-socket.ts';
import { TlsContext, type TlsMaterial } from '../../reactor/tls/context.ts';
import type { HbonePeer, RunningPeer } from './hbone-peer.ts';
import { until } from './reactor.ts';

const LOOPBACK = getIp('127.0.0.1');

export function oursOn(loop: EventLoop): HbonePeer {
  return {
    name: 'ours',
    startServer: (material) => Promise.resolve(startOurServer(loop, material)),
    startClient: (material, server, identity) => Promise.resolve(startOurClient(loop, material, server, identity)),
  };
}

export interface OurServer extends RunningPeer {
  readonly server: HboneServer<string>;
  readonly listener: TcpListener;
}

/** A server that dials every authority; `overrides` replace single options. */
export function startOurServer(
  loop: EventLoop,
  material: TlsMaterial,
  overrides: Partial<HboneServerOptions<string>> = {},
): OurServer {
  const tls = TlsContext.create('server', material, { alpn: ['h2'], requirePeerCertificate: true });
  const server = new HboneServer<string>(loop, {
    tls: () => tls,
    trustDomain: 'cluster.local',
    onConnect: (request) => dialAuthority(loop, request),
    onSessionRefused: () => {},
    ...overrides,
  });
  const listener = listenTcp(loop, { port: 0, ip: LOOPBACK }, (socket) => server.accept(socket, 'pod'));
  return {
    server,
    listener,
    address: listener.address,
    async stop() {
      listener.close();
      server.close();
      await until(loop, 'server sessions closed', () => server.stats.sessions === 0);
      tls.free();
    },
  };
}

/** Connects to the authority, answers, splices: the smallest inbound proxy. */
export function dialAuthority(loop: EventLoop, request: TunnelRequest<string>): void {
  const target = parseAuthority(request.authority);
  if (target?.kind !== 'address') {
    request.refuse(400);
    return;
  }
  const attempt = connectTcp(
    loop,
    { to: target.address },
    {
      onConnected(socket) {
        if (request.abandoned) socket.abort();
        else spliceTunnel(loop, socket, request.accept([]), () => {});
      },
      onConnectFailed: (error) => request.refuse(503, error),
    },
  );
  request.onAbandoned = () => attempt.cancel();
}

export interface OurClient extends RunningPeer {
  readonly pool: TunnelPool;
}

export function startOurClient(
  loop: EventLoop,
  material: TlsMaterial,
  server: SocketAddress,
  serverIdentity: string,
  options: TunnelPoolOptions = {},
): OurClient {
  if (!isSpiffeId(serverIdentity)) throw new AmbitError('USAGE', serverIdentity);
  const tls = TlsContext.create('client', material, { alpn: ['h2'], requirePeerCertificate: true });
  const pool = new TunnelPool(loop, options);
  const listener = listenTcp(loop, { port: 0, ip: LOOPBACK }, (socket) => {
    readRequest(socket, (authority) => {
      pool.open(
        {
          sourceIdentity: 'test',
          expectedIdentities: [serverIdentity],
          dial: server,
          clientIp: LOOPBACK,
          tls: () => tls,
          authority,
          headers: { baggage: 'k8s.namespace.name=test' },
        },
        {
          onOpen(tunnel) {
            answer(socket, 200);
            spliceTunnel(loop, socket, tunnel, () => {});
          },
          onRefused(_error, status) {
            answer(socket, status ?? 502);
            socket.close();
          },
        },
      );
    });
  });
  return {
    pool,
    address: listener.address,
    async stop() {
      listener.close();
      pool.close();
      await until(loop, 'client sessions closed', () => pool.stats.sessions === 0);
      tls.free();
    },
  };
}

/** Reads the HTTP/1.1 CONNECT head of a test application and gives its authority. */
function readRequest(socket: TcpSocket, onAuthority: (authority: string) => void): void {
  const arena = new Arena(1024);
  let used = 0;
  const done = () => {
    socket.setInterest(0);
    arena.free();
  };
  socket.owner = {
    onReadable() {
      const count = socket.read(arena, used, 1);
      if (count === WOULD_BLOCK) return;
      if (count <= 0) {
        done();
        socket.close();
        return;
      }
      used += count;
      const text = arena.bytes.toString('latin1', 0, used);
      if (!text.endsWith('\r\n\r\n')) return;
      done();
      onAuthority(text.split(' ')[1] ?? '');
    },
    onWritable() {},
    onBroken() {
      done();
      socket.close();
    },
  };
  socket.setInterest(READABLE);
}

function answer(socket: TcpSocket, status: number): void {
  const text = Buffer.from(`HTTP/1.1 ${status} -\r\n\r\n`);
  const arena = new Arena(text.length);
  text.copy(arena.bytes);
  if (!socket.closed) socket.write(arena, 0, text.length);
  arena.free();
}
