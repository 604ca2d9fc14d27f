/**
 * Run in a process of its own with a low descriptor limit: uses up all descriptors while a connection waits, shows that the
 * loop stays quiet, gives descriptors back and shows that the connection is accepted then. Prints `turns=<n> accepted`.
 */
import { closeSync, openSync } from 'node:fs';
import { getIp } from '../../core/ip.ts';
import { EventLoop } from '../../reactor/loop.ts';
import { connectTcp } from '../../reactor/tcp-connect.ts';
import { listenTcp } from '../../reactor/tcp-listen.ts';

const loop = EventLoop.open();
let turns = 0;
const listener = listenTcp(loop, { port: 0, ip: getIp('127.0.0.1') }, (socket) => {
  socket.close();
  process.stdout.write(`turns=${turns} accepted\n`);
  loop.stop();
});
listener.pause();
connectTcp(
  loop,
  { to: listener.address },
  {
    onConnected() {
      const filler: number[] = [];
      try {
        for (;;) filler.push(openSync('/dev/null', 'r'));
      } catch {
        // The limit is reached.
      }
      listener.resume();
      const before = loop.stats.turns;
      loop.setTimer(350, () => {
        turns = loop.stats.turns - before;
        for (const fd of filler) closeSync(fd);
      });
    },
    onConnectFailed(error) {
      throw error;
    },
  },
);
await loop.run();
process.exit(0);
