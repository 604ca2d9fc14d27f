/**
 * The side that gives: waits for a successor, lends it the listening sockets, and retires when the successor has them. One
 * successor at a time; a successor that falls silent or disappears before that changes nothing.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { sendDescriptors } from '../../reactor/unix-socket.ts';
import type { LentListener } from '../dataplane/messages.ts';
import { findDescriptor, isOurs, listenPrivately } from './private-socket.ts';
import {
  decodeFromSuccessor,
  encodeLine,
  type FromPredecessor,
  HANDOVER_SOCKET_NAME,
  HANDOVER_TIMEOUT_MS,
  HANDOVER_VERSION,
  LISTENERS_PER_PIECE,
} from './wire.ts';

const log = logger('handover');

/** How long to wait before a full socket is tried again. */
const FULL_SOCKET_PAUSE_MS = 2;
const WOULD_BLOCK = -11;

export interface Heritage {
  /** Enrols and accepts no more; the sockets stay open here. */
  lend(): Promise<readonly LentListener[]>;
  /** The successor did not take them: goes on as before. */
  keep(): Promise<void>;
  /** The successor has them. */
  retire(): void;
}

export class HandoverServer {
  readonly #server: Server;
  readonly #heritage: Heritage;
  #successor: Socket | undefined;
  #retired = false;

  private constructor(heritage: Heritage) {
    this.#heritage = heritage;
    this.#server = createServer((socket) => this.#meet(socket));
    this.#server.maxConnections = 8;
  }

  /** Resolves when successors can ask. */
  static async open(runDirectory: string, heritage: Heritage): Promise<HandoverServer> {
    const server = new HandoverServer(heritage);
    await listenPrivately(server.#server, join(runDirectory, HANDOVER_SOCKET_NAME));
    return server;
  }

  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#successor?.destroy();
    await promise;
  }

  #meet(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (!isOurs(socket)) {
      log.warn('a process of another user connected to the hand-over socket and was refused');
      socket.destroy();
      return;
    }
    if (this.#successor !== undefined || this.#retired) {
      const reason = this.#retired ? 'this agent has been followed already' : 'another successor is being served';
      socket.end(encodeLine({ kind: 'refused', reason }));
      return;
    }
    this.#successor = socket;
    this.#serve(socket)
      .catch((thrown: unknown) => {
        log.warn({ reason: toAmbitError(thrown, 'USAGE').message }, 'the hand-over failed, this agent goes on');
      })
      .finally(() => {
        this.#successor = undefined;
        socket.destroy();
      });
  }

  async #serve(socket: Socket): Promise<void> {
    const lines = createInterface({ input: socket, crlfDelay: 0 })[Symbol.asyncIterator]();
    // A successor announces itself long before it is ready to take over: the first word may take its time.
    const request = await lines.next();
    if (request.done) return;
    const message = decodeFromSuccessor(request.value);
    if (message.kind !== 'takeOver' || message.version !== HANDOVER_VERSION) {
      await send(socket, { kind: 'refused', reason: `only version ${HANDOVER_VERSION} is spoken` }, []);
      return;
    }
    let taken = false;
    const overdue = setTimeout(() => socket.destroy(), HANDOVER_TIMEOUT_MS);
    try {
      const listeners = await this.#heritage.lend();
      log.info({ listeners: listeners.length }, 'a successor takes the listeners over');
      for (let at = 0; at < listeners.length; at += LISTENERS_PER_PIECE) {
        const piece = listeners.slice(at, at + LISTENERS_PER_PIECE);
        const entries = piece.map(({ uid, port }) => ({ uid, port }));
        await send(
          socket,
          { kind: 'listeners', entries },
          piece.map(({ descriptor }) => descriptor),
        );
      }
      await send(socket, { kind: 'end', count: listeners.length }, []);
      const answer = await lines.next();
      taken = !answer.done && decodeFromSuccessor(answer.value).kind === 'taken';
    } finally {
      clearTimeout(overdue);
      if (taken) {
        this.#retired = true;
        this.#heritage.retire();
      } else {
        await this.#heritage.keep();
      }
    }
    if (!taken) throw new AmbitError('CLOSED', 'the successor went away before it had taken over');
    log.info('a successor has taken over');
  }
}

/** The line with its descriptors, whole. Throws when the successor is gone or does not read in time. */
async function send(socket: Socket, message: FromPredecessor, descriptors: readonly number[]): Promise<void> {
  let rest = encodeLine(message);
  let along = descriptors;
  while (rest.length > 0) {
    const fd = findDescriptor(socket);
    if (fd === undefined || socket.destroyed) throw new AmbitError('CLOSED', 'the successor is gone');
    const sent = sendDescriptors(fd, rest, along);
    if (sent === WOULD_BLOCK) {
      await new Promise((resolve) => setTimeout(resolve, FULL_SOCKET_PAUSE_MS));
    } else if (sent < 0) {
      throw new AmbitError('SYSTEM_CALL', 'the hand-over socket is broken', { errno: -sent });
    } else {
      rest = rest.subarray(sent);
      // They went with the first byte.
      along = [];
    }
  }
}
