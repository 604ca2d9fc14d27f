/**
 * The contract of an HBONE tunnel, as one suite for every pairing of a client peer and a server peer (see `hbone-peer.ts`).
 * Everything is asserted at the two applications: bytes, ends of file, resets, statuses.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { getIp, type SocketAddress } from '../../core/ip.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import type { HbonePeer, RunningPeer } from './hbone-peer.ts';
import { createAuthority } from './pki.ts';

const ROOT = createAuthority();
export const CLIENT_ID = 'spiffe://cluster.local/ns/a/sa/client';
export const SERVER_ID = 'spiffe://cluster.local/ns/b/sa/server';
export const CLIENT_MATERIAL: TlsMaterial = { ...ROOT.issue({ uris: [CLIENT_ID] }), rootsPem: ROOT.pem };
export const SERVER_MATERIAL: TlsMaterial = { ...ROOT.issue({ uris: [SERVER_ID] }), rootsPem: ROOT.pem };
export const TEST_ROOT = ROOT;

const DEADLINE_MS = 15_000;

/** Peers of one test; `run` makes them (on a loop of its own where one is needed) and takes them down. */
export type WithPeers = (work: (client: HbonePeer, server: HbonePeer) => Promise<void>) => Promise<void>;

/** Registers the suite under `name`. `except` lists sentences of scenarios that a foreign peer's library cannot play. */
export function hboneContract(name: string, withPeers: WithPeers, except: readonly string[] = []): void {
  const scenario = (sentence: string, work: (world: World) => Promise<void>) => {
    if (except.includes(sentence)) return;
    test(`${name}: ${sentence}`, { timeout: 30_000 }, () =>
      withPeers((client, server) => inWorld(client, server, work)),
    );
  };

  scenario('an echo returns every byte and both ends of file', async (world) => {
    const app = await world.application((socket) => void socket.pipe(socket));
    const socket = await world.connect(app);
    const sent = randomBytes(1 << 20);
    const received = readAll(socket);
    socket.end(sent);
    assert.ok((await received).equals(sent));
  });

  scenario('a tunnel without bytes opens and closes', async (world) => {
    const app = await world.application((socket) => socket.end());
    const socket = await world.connect(app);
    socket.end();
    assert.equal((await readAll(socket)).length, 0);
  });

  scenario('the server may end first and still receive', async (world) => {
    const atServer = Promise.withResolvers<Buffer>();
    const app = await world.application((socket) => {
      readAll(socket).then(atServer.resolve, atServer.reject);
      socket.end('that was all');
    });
    const socket = await world.connect(app);
    assert.equal((await readAll(socket)).toString(), 'that was all');
    const late = randomBytes(300_000);
    socket.end(late);
    assert.ok((await atServer.promise).equals(late));
  });

  scenario('the client may end first and still receive', async (world) => {
    const answer = randomBytes(300_000);
    const app = await world.application((socket) => {
      readAll(socket).then(() => socket.end(answer));
    });
    const socket = await world.connect(app);
    socket.end('done');
    assert.ok((await readAll(socket)).equals(answer));
  });

  scenario('eight mebibytes flow in each direction at once', async (world) => {
    const down = randomBytes(8 << 20);
    const up = randomBytes(8 << 20);
    const atServer = Promise.withResolvers<Buffer>();
    const app = await world.application((socket) => {
      readAll(socket).then(atServer.resolve, atServer.reject);
      socket.end(down);
    });
    const socket = await world.connect(app);
    const received = readAll(socket);
    socket.end(up);
    assert.equal(digest(await received), digest(down));
    assert.equal(digest(await atServer.promise), digest(up));
  });

  scenario('sixty tunnels at once keep their bytes apart', async (world) => {
    const app = await world.application((socket) => void socket.pipe(socket));
    const one = async () => {
      const socket = await world.connect(app);
      const sent = randomBytes(20_000);
      const received = readAll(socket);
      socket.end(sent);
      assert.ok((await received).equals(sent));
    };
    await Promise.all(Array.from({ length: 60 }, one));
  });

  scenario('three hundred short tunnels follow each other', async (world) => {
    const app = await world.application((socket) => void socket.pipe(socket));
    for (let round = 0; round < 30; round++) {
      const one = async () => {
        const socket = await world.connect(app);
        const received = readAll(socket);
        socket.end('ping');
        assert.equal((await received).toString(), 'ping');
      };
      await Promise.all(Array.from({ length: 10 }, one));
    }
  });

  scenario('a target that does not listen is answered 503', async (world) => {
    const app = await world.application(() => {});
    await world.stopApplication(app);
    assert.equal(await world.statusOf(`127.0.0.1:${app.port}`), 503);
  });

  scenario('an authority without a port is answered 400', async (world) => {
    assert.equal(await world.statusOf('127.0.0.1'), 400);
  });

  scenario('a reset of the client reaches the server application', async (world) => {
    const ended = Promise.withResolvers<void>();
    const app = await world.application((socket) => {
      socket.on('data', () => {});
      socket.on('error', () => {});
      socket.on('close', () => ended.resolve());
      // Some peers end the body in order before they reset.
      socket.on('end', () => ended.resolve());
      socket.write('hello');
    });
    const socket = await world.connect(app);
    await onceData(socket);
    socket.resetAndDestroy();
    await within('the server application hears of the end', ended.promise);
  });

  scenario('a reset of the server application reaches the client', async (world) => {
    const app = await world.application((socket) => {
      socket.on('data', () => socket.resetAndDestroy());
    });
    const socket = await world.connect(app);
    const ended = Promise.withResolvers<void>();
    socket.on('data', () => {});
    socket.on('error', () => {});
    socket.on('close', () => ended.resolve());
    socket.on('end', () => socket.end());
    socket.write('hello');
    await within('the client application hears of the end', ended.promise);
  });

  scenario('a receiver that stops reading does not stall its neighbour and loses nothing', async (world) => {
    const app = await world.application((socket) => socket.end(randomBytes(6 << 20)));
    const stalled = await world.connect(app);
    stalled.pause();
    const echo = await world.application((socket) => void socket.pipe(socket));
    for (let round = 0; round < 3; round++) {
      const socket = await world.connect(echo);
      const sent = randomBytes(2 << 20);
      const received = readAll(socket);
      socket.end(sent);
      assert.equal(digest(await received), digest(sent));
    }
    const received = readAll(stalled);
    stalled.end();
    assert.equal((await received).length, 6 << 20);
  });
}

interface World {
  application(onConnection: (socket: net.Socket) => void): Promise<SocketAddress>;
  stopApplication(address: SocketAddress): Promise<void>;
  /** Opens a tunnel to an application; rejects unless it is answered 200. */
  connect(to: SocketAddress): Promise<net.Socket>;
  statusOf(authority: string): Promise<number>;
}

async function inWorld(client: HbonePeer, server: HbonePeer, work: (world: World) => Promise<void>): Promise<void> {
  const running: RunningPeer[] = [];
  const applications = new Map<number, net.Server>();
  const sockets = new Set<net.Socket>();
  const keep = (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    return socket;
  };
  try {
    const serverPeer = await server.startServer(SERVER_MATERIAL);
    running.push(serverPeer);
    const clientPeer = await client.startClient(CLIENT_MATERIAL, serverPeer.address, SERVER_ID);
    running.push(clientPeer);
    const open = (authority: string) => proxied(keep(net.connect(connectOptions(clientPeer.address))), authority);
    await work({
      async application(onConnection) {
        const application = net.createServer({ allowHalfOpen: true }, (socket) => onConnection(keep(socket)));
        await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve));
        const { port } = application.address() as AddressInfo;
        applications.set(port, application);
        return { ip: getIp('127.0.0.1'), port };
      },
      async stopApplication({ port }) {
        const application = applications.get(port);
        await new Promise<void>((resolve) => application?.close(() => resolve()));
      },
      async connect(to) {
        const { socket, status } = await open(`${to.ip}:${to.port}`);
        assert.equal(status, 200);
        return socket;
      },
      async statusOf(authority) {
        const { socket, status } = await open(authority);
        socket.destroy();
        return status;
      },
    });
  } finally {
    for (const socket of sockets) socket.destroy();
    for (const application of applications.values()) application.close();
    for (const peer of running.reverse()) await peer.stop();
  }
}

function connectOptions(address: SocketAddress): net.TcpNetConnectOpts & { allowHalfOpen: boolean } {
  return { host: address.ip, port: address.port, allowHalfOpen: true };
}

/** Asks the proxy for a tunnel; resolves with the answer's status, the socket paused behind the head. */
function proxied(socket: net.Socket, authority: string): Promise<{ socket: net.Socket; status: number }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ socket: net.Socket; status: number }>();
  let head = '';
  const onReadable = () => {
    for (let part = socket.read(1); part !== null; part = socket.read(1)) {
      head += part.toString('latin1');
      if (!head.endsWith('\r\n\r\n')) continue;
      socket.off('readable', onReadable);
      resolve({ socket, status: Number(head.split(' ')[1]) });
      return;
    }
  };
  socket.on('readable', onReadable);
  socket.on('error', reject);
  socket.on('end', () => reject(new Error('the proxy closed without an answer')));
  socket.write(`CONNECT ${authority} HTTP/1.1\r\n\r\n`);
  return within(`answer for ${authority}`, promise);
}

export function readAll(socket: net.Socket): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('end', () => resolve(Buffer.concat(parts)));
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('closed before the end of file')));
  socket.resume();
  return within('end of file', promise);
}

function onceData(socket: net.Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once('data', () => resolve());
  return within('first bytes', promise);
}

export function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out: ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
