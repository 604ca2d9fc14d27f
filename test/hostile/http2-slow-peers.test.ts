/** Row 10 of the attack table: peers that open no window, do not read, or trickle. Neighbours on the same session keep working. */
import assert from 'node:assert/strict';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { TunnelEnd } from '../../hbone/tunnel.ts';
import { WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { HBONE_HTTP2_LIMITS } from '../../reactor/http2/limits.ts';
import { inHostileWorld } from '../support/hostile-world.ts';
import { setting, TYPE, uint32 } from '../support/raw-http2.ts';
import { until } from '../support/reactor.ts';

const STALLED = '10.0.0.1:1';
const TAKES_NOTHING: TunnelEnd = {
  fill: () => WOULD_BLOCK,
  take: () => 0,
  onRemoteEnd() {},
  onClosed() {},
};
const ZERO_WINDOW = setting(4, 0);

test('row 10: a stream without window gets nothing, its neighbour with window gets everything', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker(ZERO_WINDOW);
    raw.connectRequest(1, world.echo);
    raw.connectRequest(3, world.echo);
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 3);
    raw.send(TYPE.windowUpdate, 0, 3, uint32(1000));
    raw.send(TYPE.data, 0, 1, Buffer.from('starved'));
    raw.send(TYPE.data, 0, 3, Buffer.from('served'));
    const served = await raw.frame('echo', (candidate) => candidate.type === TYPE.data);
    assert.equal(served.streamId, 3);
    assert.equal(served.payload.toString(), 'served');
    raw.send(TYPE.windowUpdate, 0, 1, uint32(3));
    const dribble = await raw.frame('dribble', (candidate) => candidate.type === TYPE.data && candidate.streamId === 1);
    assert.equal(dribble.payload.toString(), 'sta');
  }));

test('row 10: a body that ends while the initial window is zero still ends', () =>
  inHostileWorld(async (world) => {
    const raw = await world.attacker(ZERO_WINDOW);
    raw.connectRequest(1, world.echo);
    await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
    raw.send(TYPE.windowUpdate, 0, 1, uint32(5));
    raw.send(TYPE.data, 1, 1, Buffer.from('12345'));
    await raw.frame('echo', (candidate) => candidate.type === TYPE.data && candidate.payload.length === 5);
    raw.send(TYPE.windowUpdate, 0, 1, uint32(1));
    await raw.frame('end', (candidate) => candidate.type === TYPE.data && (candidate.flags & 1) === 1);
  }));

test('row 10: a peer that asks for much and reads nothing costs a bounded buffer', () =>
  inHostileWorld(async (world) => {
    const source = await endlessSource();
    const raw = await world.attacker(setting(4, 0x7fffffff));
    raw.send(TYPE.windowUpdate, 0, 0, uint32(0x7fff0000 - 65_535));
    raw.pause();
    for (let index = 0; index < 50; index++) raw.connectRequest(1 + index * 2, source.authority);
    await until(world.loop, 'the tunnels stand', () => world.connects() >= 50);
    const before = process.memoryUsage().rss;
    for (let round = 0; round < 50; round++) await world.innocent();
    const growth = process.memoryUsage().rss - before;
    assert.ok(growth < 64 << 20, `${growth} bytes more`);
    source.stop();
  }));

test('row 10: a receiver that takes nothing stalls its stream only; beyond the budget the largest holder is reset', () =>
  inHostileWorld(
    async (world) => {
      const raw = await world.attacker();
      await raw.acknowledge();
      raw.connectRequest(1, world.echo);
      await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === 1);
      for (const id of [3, 5, 7]) {
        raw.connectRequest(id, STALLED);
        await raw.frame('200', (candidate) => candidate.type === TYPE.headers && candidate.streamId === id);
        for (let sent = 0; sent < 4; sent++) raw.send(TYPE.data, 0, id, Buffer.alloc(128 * 1024));
        await world.innocent();
      }
      const reset = await raw.frame('budget reset', (candidate) => candidate.type === TYPE.reset);
      assert.equal(reset.payload.readUInt32BE(0), 11, 'ENHANCE_YOUR_CALM');
      assert.equal(world.counters.budgetResets, 1);
      raw.send(TYPE.data, 0, 1, Buffer.from('neighbour'));
      const echoed = await raw.frame('echo', (candidate) => candidate.type === TYPE.data && candidate.streamId === 1);
      assert.equal(echoed.payload.toString(), 'neighbour');
    },
    { http2: { ...HBONE_HTTP2_LIMITS, sessionHeldBytes: 1 << 20 } },
    (request) => {
      if (request.authority !== STALLED) return false;
      request.accept([]).attach(TAKES_NOTHING);
      return true;
    },
  ));

async function endlessSource(): Promise<{ authority: string; stop(): void }> {
  const part = Buffer.alloc(1 << 20);
  return application((socket) => {
    const more = () => {
      while (socket.writable && socket.write(part));
    };
    socket.on('drain', more);
    more();
  });
}

async function application(onSocket: (socket: net.Socket) => void): Promise<{ authority: string; stop(): void }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    authority: `127.0.0.1:${port}`,
    stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
