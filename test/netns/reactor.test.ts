import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import { AmbitError } from '../../core/errors.ts';
import { formatSocketAddress, getIp } from '../../core/ip.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { listenTcp } from '../../reactor/tcp-listen.ts';
import { TestNamespace } from '../support/netns.ts';
import { connected, deferred, listening, receive, send, withLoop } from '../support/reactor.ts';

let created = 0;

/** Runs `work` with a fresh namespace, which is removed afterwards. */
async function withNamespace(work: (inside: NetworkNamespace, space: TestNamespace) => Promise<void>): Promise<void> {
  const space = new TestNamespace(`ambit-t${process.pid}-reactor${++created}`);
  try {
    const inside = NetworkNamespace.openPath(space.path);
    try {
      await work(inside, space);
    } finally {
      inside.close();
    }
  } finally {
    await space.remove();
  }
}

const is = (code: string) => (error: unknown) => error instanceof AmbitError && error.code === code;
// The first use of a thread opens a descriptor of its own namespace, which it keeps.
const home = NetworkNamespace.current();
home.run(() => {});
home.close();

const LOOPBACK = getIp('127.0.0.1');

test('a listener in a namespace is reached from inside it and not from outside', () =>
  withLoop((loop) =>
    withNamespace(async (inside) => {
      const { listener, address, accepted } = listening(loop, { netns: inside });
      const client = await connected(loop, { to: address, netns: inside });
      const server = await accepted();
      await send(client, Buffer.from('inside'));
      assert.equal((await receive(server, 6)).bytes.toString(), 'inside');
      await assert.rejects(connected(loop, { to: address }), is('CONNECT_FAILED'));
      for (const open of [client, server, listener]) open.close();
    }),
  ));

test('the thread is back in its own namespace after the work, also when the work throws or nests', () =>
  withNamespace(async (inside) => {
    const home = NetworkNamespace.current();
    const here = () => {
      const current = NetworkNamespace.current();
      const inode = current.inode;
      current.close();
      return inode;
    };
    assert.notEqual(inside.inode, home.inode);
    assert.equal(inside.run(here), inside.inode);
    assert.equal(here(), home.inode);
    assert.throws(
      () =>
        inside.run(() => {
          throw new Error('work failed');
        }),
      /work failed/,
    );
    assert.equal(here(), home.inode);
    assert.deepEqual(
      inside.run(() => [here(), home.run(here), here()]),
      [inside.inode, home.inode, inside.inode],
    );
    assert.equal(here(), home.inode);
    assert.throws(() => inside.run(() => Promise.resolve()), is('USAGE'));
    assert.equal(here(), home.inode);
    home.close();
  }));

test('what is not a namespace is refused', () => {
  assert.throws(() => NetworkNamespace.openPath('/nowhere'), is('NETNS'));
  assert.throws(() => NetworkNamespace.openFd(-1), is('NETNS'));
  const file = NetworkNamespace.openFd(openSync('/proc/self/status', 'r'));
  assert.throws(() => file.run(() => assert.fail('entered')), is('NETNS'));
  file.close();
  file.close();
  assert.throws(() => file.run(() => assert.fail('entered')), is('CLOSED'));
});

test('a redirected connection tells its original destination, IPv4 and IPv6 through one wildcard listener', () =>
  withLoop((loop) =>
    withNamespace(async (inside, space) => {
      space.nft(`
        table inet redirected {
          chain output {
            type nat hook output priority -100
            tcp dport 8080 redirect to :15001
          }
        }
      `);
      const seen: string[] = [];
      const done = deferred<void>('both redirected connections');
      const listener = listenTcp(loop, { port: 15001, netns: inside }, (socket) => {
        const original = socket.originalDestination();
        seen.push(original === undefined ? 'none' : formatSocketAddress(original));
        socket.close();
        if (seen.length === 2) done.resolve();
      });
      const four = await connected(loop, { to: { ip: LOOPBACK, port: 8080 }, netns: inside });
      const six = await connected(loop, { to: { ip: getIp('::1'), port: 8080 }, netns: inside });
      await done.promise;
      assert.deepEqual(seen, ['127.0.0.1:8080', '[::1]:8080']);
      for (const open of [four, six, listener]) open.close();
    }),
  ));

test('a connection that nothing redirected has no original destination', () =>
  withLoop((loop) =>
    withNamespace(async (inside) => {
      const { listener, address, accepted } = listening(loop, { netns: inside });
      const client = await connected(loop, { to: address, netns: inside });
      const server = await accepted();
      assert.equal(server.originalDestination(), undefined);
      for (const open of [client, server, listener]) open.close();
    }),
  ));

test('the server sees a foreign source address that the client chose, IPv4 and IPv6', () =>
  withLoop((loop) =>
    withNamespace((client, clientSpace) =>
      withNamespace(async (server, serverSpace) => {
        const link = ['link', 'add', 'veth0', 'netns', clientSpace.name, 'type', 'veth', 'peer', 'name', 'veth0'];
        serverSpace.ip(link.join(' '));
        const addresses = [
          { mine: '172.30.0.1', theirs: '172.30.0.2', foreign: '172.30.9.9', length: 24, family: '-4' },
          { mine: 'fd00::1', theirs: 'fd00::2', foreign: 'fd00:9::9', length: 64, family: '-6' },
        ];
        for (const [space, key] of [
          [clientSpace, 'mine'],
          [serverSpace, 'theirs'],
        ] as const) {
          for (const row of addresses) {
            space.ip(`addr add ${row[key]}/${row.length} dev veth0${row.family === '-6' ? ' nodad' : ''}`);
          }
          space.ip('link set veth0 up');
        }
        for (const row of addresses) {
          // Replies to the foreign address reach the client's node and are delivered there.
          serverSpace.ip(`${row.family} route add ${row.foreign} via ${row.mine}`);
          clientSpace.ip(`${row.family} route add local ${row.foreign} dev lo table 100`);
          clientSpace.ip(`${row.family} rule add iif veth0 lookup 100`);
          const to = getIp(row.theirs);
          const { listener, address, accepted } = listening(loop, { netns: server, ip: to });
          const from = getIp(row.foreign);
          const socket = await connected(loop, { to: { ip: to, port: address.port }, from, netns: client });
          const seen = await accepted();
          assert.equal(seen.remoteAddress.ip, row.foreign);
          assert.equal(socket.localAddress.ip, row.foreign);
          await send(socket, Buffer.from('hello'));
          assert.equal((await receive(seen, 5)).bytes.toString(), 'hello');
          for (const open of [socket, seen, listener]) open.close();
        }
      }),
    ),
  ));

test('a transparent listener takes connections to addresses that are not of the namespace', () =>
  withLoop((loop) =>
    withNamespace(async (inside, space) => {
      space.ip('route add local 198.51.100.0/24 dev lo');
      const listener = listenTcp(
        loop,
        { port: 0, netns: inside, transparent: true, ip: getIp('203.0.113.7') },
        () => {},
      );
      assert.equal(listener.address.ip, '203.0.113.7');
      listener.close();
      assert.throws(
        () => listenTcp(loop, { port: 0, netns: inside, ip: getIp('203.0.113.7') }, () => {}),
        is('SYSTEM_CALL'),
      );
    }),
  ));

test('marks reach the packets of both ends, so that rules can tell them', () =>
  withLoop((loop) =>
    withNamespace(async (inside, space) => {
      space.nft(`
        table inet marked {
          chain output {
            type filter hook output priority 0
            tcp dport 7000 meta mark != 0x539 reject with tcp reset
            tcp sport 7000 tcp flags & rst == 0 meta mark != 0x77 drop
          }
        }
      `);
      const { listener, address, accepted } = listening(loop, { netns: inside, port: 7000, mark: 0x77 });
      await assert.rejects(connected(loop, { to: address, netns: inside, timeoutMs: 1000 }), is('CONNECT_FAILED'));
      const client = await connected(loop, { to: address, netns: inside, mark: 0x539 });
      const server = await accepted();
      await send(server, Buffer.from('marked too'));
      assert.equal((await receive(client, 10)).bytes.toString(), 'marked too');
      for (const open of [client, server, listener]) open.close();
    }),
  ));

test('where IPv6 is switched off a wildcard listener still takes IPv4', () =>
  withLoop((loop) =>
    withNamespace(async (inside, space) => {
      space.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
      const { listener, address, accepted } = listening(loop, { netns: inside, ip: undefined });
      const client = await connected(loop, { to: { ip: LOOPBACK, port: address.port }, netns: inside });
      const server = await accepted();
      assert.equal(server.remoteAddress.ip, '127.0.0.1');
      for (const open of [client, server, listener]) open.close();
    }),
  ));

test('listeners of two loops share one port', () =>
  withLoop((first) =>
    withLoop((second) =>
      withNamespace(async (inside) => {
        const a = listening(first, { netns: inside, port: 7100, reusePort: true });
        const b = listening(second, { netns: inside, port: 7100, reusePort: true });
        const winners = new Set<string>();
        const note = (name: string, next: () => ReturnType<typeof a.accepted>) =>
          void next().then(
            (socket) => {
              winners.add(name);
              socket.close();
              note(name, next);
            },
            () => {},
          );
        note('a', a.accepted);
        note('b', b.accepted);
        for (let i = 0; i < 200 && winners.size < 2; i++) {
          const client = await connected(first, { to: { ip: LOOPBACK, port: 7100 }, netns: inside });
          await receive(client);
          client.close();
        }
        assert.deepEqual([...winners].sort(), ['a', 'b']);
        a.listener.close();
        b.listener.close();
      }),
    ),
  ));
