/** `node:http2` as a peer of the contract suite. It shares the engine with this library but none of its session code. */
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { getIp, parseAuthority, type SocketAddress } from '../../core/ip.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import type { HbonePeer, RunningPeer } from './hbone-peer.ts';

export const nodePeer: HbonePeer = { name: 'node:http2', startServer, startClient };

const SETTINGS = { initialWindowSize: 1 << 20, maxFrameSize: 1 << 20 };

export function tlsOptions(material: TlsMaterial) {
  return {
    cert: material.certificateChainPem,
    key: material.privateKeyPem,
    ca: material.rootsPem,
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['h2'],
  } as const;
}

async function startServer(material: TlsMaterial): Promise<RunningPeer> {
  const sessions = new Set<http2.ServerHttp2Session>();
  const server = http2.createSecureServer({
    ...tlsOptions(material),
    requestCert: true,
    rejectUnauthorized: true,
    settings: { ...SETTINGS, maxConcurrentStreams: 100 },
  });
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', () => {});
  });
  server.on('stream', (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    stream.on('error', () => {});
    const target = parseAuthority(String(headers[':authority']));
    if (headers[':method'] !== 'CONNECT' || target?.kind !== 'address') {
      stream.respond({ ':status': 400 }, { endStream: true });
      return;
    }
    const socket = net.connect({ host: target.address.ip, port: target.address.port, allowHalfOpen: true });
    socket.on('connect', () => {
      if (stream.destroyed) {
        socket.destroy();
        return;
      }
      stream.respond({ ':status': 200 });
      join(stream, socket);
    });
    socket.on('error', () => {
      if (!stream.headersSent && !stream.destroyed) stream.respond({ ':status': 503 }, { endStream: true });
    });
  });
  const address = await listen(server);
  return {
    address,
    stop: () =>
      stop(server, () => {
        for (const session of sessions) session.destroy();
      }),
  };
}

async function startClient(material: TlsMaterial, server: SocketAddress, serverIdentity: string): Promise<RunningPeer> {
  const session = http2.connect(`https://${server.ip}:${server.port}`, {
    ...tlsOptions(material),
    servername: '',
    settings: { ...SETTINGS, enablePush: false },
    checkServerIdentity: (_host, certificate) =>
      certificate.subjectaltname === `URI:${serverIdentity}` ? undefined : new Error('wrong identity'),
  });
  session.on('error', () => {});
  const proxy = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    let head = '';
    const onReadable = () => {
      for (let part = socket.read(1); part !== null; part = socket.read(1)) {
        head += part.toString('latin1');
        if (!head.endsWith('\r\n\r\n')) continue;
        socket.off('readable', onReadable);
        openTunnel(session, socket, head.split(' ')[1] ?? '');
        return;
      }
    };
    socket.on('readable', onReadable);
  });
  const address = await listen(proxy);
  return { address, stop: () => stop(proxy, () => session.destroy()) };
}

function openTunnel(session: http2.ClientHttp2Session, socket: net.Socket, authority: string): void {
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority }, { endStream: false });
  let answered = false;
  stream.on('response', (headers) => {
    answered = true;
    const status = headers[':status'];
    socket.write(`HTTP/1.1 ${status} -\r\n\r\n`);
    if (status === 200) join(stream, socket);
    else {
      socket.end();
      stream.close();
    }
  });
  stream.on('error', () => {});
  stream.on('close', () => {
    if (!answered) socket.end('HTTP/1.1 502 -\r\n\r\n');
  });
}

/** Both directions with half-close; an abrupt end of one side ends the other abruptly. */
function join(stream: http2.Http2Stream & Duplex, socket: net.Socket): void {
  stream.pipe(socket);
  socket.pipe(stream);
  socket.on('error', () => stream.close(http2.constants.NGHTTP2_CONNECT_ERROR));
  socket.on('close', () => {
    if (!stream.closed && !stream.writableFinished) stream.close(http2.constants.NGHTTP2_CANCEL);
  });
  stream.on('error', () => socket.resetAndDestroy());
  stream.on('close', () => {
    if (!socket.writableFinished && stream.rstCode !== 0) socket.resetAndDestroy();
  });
}

function listen(server: net.Server | http2.Http2SecureServer): Promise<SocketAddress> {
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port }: AddressInfo = server.address() as AddressInfo;
      resolve({ ip: getIp('127.0.0.1'), port });
    });
  });
}

function stop(server: net.Server | http2.Http2SecureServer, end: () => void): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    end();
  });
}
