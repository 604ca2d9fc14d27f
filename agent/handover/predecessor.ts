/**
 * The side that gives: waits for successors, lends the listening sockets to the first that is ready for them, and retires
 * when that one serves. One successor at a time is lent them; one that falls silent or disappears before it serves changes
 * nothing, and one that never gets ready is in nobody's way.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { sendDescriptors } from '../../reactor/unix-socket.ts';
import type { LentListener } from '../dataplane/messages.ts';
import { findDescriptor, isOurs, listenPrivately } from '../private-socket.ts';
import {
  decodeFromSuccessor,
  encodeLine,
  type FromPredecessor,
  type FromSuccessor,
  HANDOVER_SOCKET_NAME,
  HANDOVER_TIMEOUT_MS,
  HANDOVER_VERSION,
  LISTENERS_PER_PIECE,
} from './wire.ts';

const log = logger('handover');

/** Successors that prepare themselves at the same time. */
const MAX_SUCCESSORS = 8;
/** How long to wait before a full socket is tried again. */
const FULL_SOCKET_PAUSE_MS = 2;

export interface Heritage {
  /** Enrols and accepts no more; the sockets stay open here. */
  lend(): Promise<readonly LentListener[]>;
  /** The successor did not take them: goes on as before. */
  keep(): Promise<void>;
  /** The successor serves. */
  retire(): void;
}

export class HandoverServer {
  readonly #server: Server;
  readonly #heritage: Heritage;
  readonly #successors = new Set<Socket>();
  #lending = false;
  #retired = false;

  private constructor(heritage: Heritage) {
    this.#heritage = heritage;
    this.#server = createServer((socket) => this.#meet(socket));
    this.#server.maxConnections = MAX_SUCCESSORS;
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
    for (const socket of this.#successors) socket.destroy();
    await promise;
  }

  #meet(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (!isOurs(socket)) {
      log.warn('a process of another user connected to the hand-over socket and was refused');
      socket.destroy();
      return;
    }
    this.#successors.add(socket);
    this.#serve(socket)
      .catch((thrown: unknown) => {
        log.warn({ reason: toAmbitError(thrown, 'USAGE').message }, 'the hand-over failed, this agent goes on');
      })
      .finally(() => {
        this.#successors.delete(socket);
        socket.destroy();
      });
  }

  async #serve(socket: Socket): Promise<void> {
    const lines = createInterface({ input: socket, crlfDelay: 0 })[Symbol.asyncIterator]();
    // A successor announces itself long before it is ready to take over: the first word may take its time.
    const request = await lines.next();
    if (request.done) return;
    const refusal = this.#refusalOf(decodeFromSuccessor(request.value));
    if (refusal !== undefined) {
      await send(socket, { kind: 'refused', reason: refusal }, []);
      return;
    }
    this.#lending = true;
    try {
      await this.#lendTo(socket, lines);
    } finally {
      this.#lending = false;
    }
  }

  #refusalOf(message: FromSuccessor): string | undefined {
    if (message.kind !== 'takeOver' || message.version !== HANDOVER_VERSION) {
      return `only version ${HANDOVER_VERSION} is spoken`;
    }
    if (this.#retired) return 'this agent has been followed already';
    return this.#lending ? 'another successor is being served' : undefined;
  }

  async #lendTo(socket: Socket, lines: AsyncIterator<string>): Promise<void> {
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
