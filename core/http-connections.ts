/**
 * Bounds the connections of an HTTP server without letting whoever holds them shut out everybody else: a new connection
 * is always taken, and at the limit the one that has been idle for the longest time is closed instead. Idle is every
 * connection whose request is not being answered: one that sent nothing, half a request, or waits for its next one.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** To be called once, before the server listens. */
export function boundConnections(server: Server, limit: number): void {
  /** Longest idle first. */
  const open = new Set<Socket>();
  const answering = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    if (open.size >= limit) closeOldest(open, answering);
    open.add(socket);
    socket.once('close', () => {
      open.delete(socket);
      answering.delete(socket);
    });
  });
  server.on('request', ({ socket }, response) => {
    if (!open.has(socket)) return;
    answering.add(socket);
    response.once('close', () => {
      answering.delete(socket);
      // Idle from now on.
      if (open.delete(socket)) open.add(socket);
    });
  });
}

/** The longest idle; when all are being answered, the oldest. */
function closeOldest(open: Set<Socket>, answering: ReadonlySet<Socket>): void {
  const [oldest] = open;
  const victim = open.values().find((socket) => !answering.has(socket)) ?? oldest;
  if (victim === undefined) return;
  open.delete(victim);
  victim.destroy();
}
