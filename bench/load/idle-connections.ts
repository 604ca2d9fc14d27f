/**
 * Opens connections and keeps them without sending anything but one request on each, as told on standard input: a number
 * per line is the count wanted; answers with the count reached.
 *
 *     node idle-connections.ts <ip> <port>
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

const PARALLEL = 64;
const [ip = '', port = ''] = process.argv.slice(2);
const open: Socket[] = [];

for await (const line of createInterface(process.stdin)) {
  const wanted = Number(line);
  while (open.length > wanted) open.pop()?.destroy();
  while (open.length < wanted) {
    const batch = Math.min(PARALLEL, wanted - open.length);
    open.push(...(await Promise.all(Array.from({ length: batch }, openOne))));
  }
  process.stdout.write(`${open.length}\n`);
}
process.exit(0);

/** A connection counts once a request on it was answered: it then exists on every proxy and on the server. */
async function openOne(): Promise<Socket> {
  const socket = connect({ host: ip, port: Number(port), noDelay: true });
  socket.write(`GET / HTTP/1.1\r\nHost: ${ip}\r\n\r\n`);
  await once(socket, 'data');
  socket.on('data', () => {});
  socket.on('error', (error) => {
    process.stderr.write(`an idle connection failed: ${error.message}\n`);
    process.exit(1);
  });
  return socket;
}
