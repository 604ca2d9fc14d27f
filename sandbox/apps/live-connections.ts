/** Connections to the echo server that stay open, by name; tells when one ends without having been closed here. */

import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';

export class LiveConnections {
  readonly #sockets = new Map<string, Socket>();
  readonly #onClosed: (name: string, reason: string) => void;

  constructor(onClosed: (name: string, reason: string) => void) {
    this.#onClosed = onClosed;
  }

  /** Resolves with the server's greeting, which proves that the connection goes all the way. */
  async open(name: string, host: string, port: number): Promise<string> {
    const socket = createConnection({ host, port });
    const [chunk]: unknown[] = await once(socket, 'data', { signal: AbortSignal.timeout(10_000) });
    this.#sockets.set(name, socket);
    let reason = 'end';
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.on('close', () => {
      if (this.#sockets.delete(name)) this.#onClosed(name, reason);
    });
    return String(chunk).trim();
  }

  /** One byte there and back. Rejects when the connection is gone or does not answer within two seconds. */
  async ping(name: string): Promise<void> {
    const socket = this.#sockets.get(name);
    if (socket === undefined) throw new Error(`connection ${name} is not open`);
    const answer = once(socket, 'data', { signal: AbortSignal.timeout(2000) });
    socket.write('.');
    await answer;
  }

  async close(name: string): Promise<void> {
    const socket = this.#sockets.get(name);
    if (socket === undefined) return;
    this.#sockets.delete(name);
    const closed = once(socket, 'close');
    socket.end();
    await closed;
  }
}
