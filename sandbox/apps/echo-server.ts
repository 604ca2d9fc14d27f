/**
 * Raw TCP: greets each client with one line, the address it sees it under, and then returns every byte. Half-close is
 * passed on: when the client has finished sending, the server finishes too, after the last byte.
 */
import { createServer } from 'node:net';

export function startEchoServer(port: number): void {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.write(greeting(socket.remoteAddress ?? ''));
    socket.pipe(socket);
  });
  server.listen(port);
}

/** The line the server sends first. */
export function greeting(remoteAddress: string): string {
  return `hello ${remoteAddress.replace(/^::ffff:/, '')}\n`;
}
