/** The status port as a part: readiness of all parts, metrics, and the read-only views of the state. */
import type { Server } from 'node:http';
import type { SocketAddress } from '../core/ip.ts';
import type { Part } from './part.ts';
import { openStatusServer, type StatusSource } from './status-server.ts';

export class StatusPart implements Part {
  readonly name = 'status port';
  readonly #listen: SocketAddress;
  readonly #source: StatusSource;
  #server: Server | undefined;
  /** In use; 0 until it listens. */
  port = 0;

  constructor(listen: SocketAddress, source: StatusSource) {
    this.#listen = listen;
    this.#source = source;
  }

  async start(): Promise<void> {
    const { server, port } = await openStatusServer(this.#listen, this.#source);
    this.#server = server;
    this.port = port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  pending(): readonly string[] {
    return [];
  }
}
