/**
 * The side that takes: knows whether there is a predecessor, waits until it can replace it, and receives its listening
 * sockets. Node's own reading is never begun on this connection, because it would drop the descriptors: the socket is
 * looked at from time to time while the hand-over lasts, which is some milliseconds.
 */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { AmbitError } from '../../core/errors.ts';
import { WOULD_BLOCK } from '../../reactor/byte-channel.ts';
import { discardDescriptors, receiveDescriptors } from '../../reactor/unix-socket.ts';
import type { LentListener } from '../dataplane/messages.ts';
import { findDescriptor, isOurs } from '../private-socket.ts';
import {
  decodeFromPredecessor,
  encodeLine,
  HANDOVER_SOCKET_NAME,
  HANDOVER_TIMEOUT_MS,
  HANDOVER_VERSION,
  LISTENERS_PER_PIECE,
  MAX_LINE_BYTES,
  MAX_LISTENERS,
} from './wire.ts';

const LOOK_INTERVAL_MS = 2;

/** An agent that serves this node now. */
export class Predecessor implements Disposable {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Undefined when no agent serves the node, or what listens there is not ours. */
  static async find(runDirectory: string): Promise<Predecessor | undefined> {
    const socket = connect({ path: join(runDirectory, HANDOVER_SOCKET_NAME) });
    socket.pause();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    socket.once('connect', () => resolve(true));
    socket.on('error', () => resolve(false));
    if (!(await promise) || !isOurs(socket)) {
      socket.destroy();
      return undefined;
    }
    return new Predecessor(socket);
  }

  /** False as soon as the predecessor is gone (its end of the connection is closed). */
  isAlive(): boolean {
    const fd = findDescriptor(this.#socket);
    // Nothing is said before we ask: the only thing that can be read is the end.
    return fd !== undefined && !this.#socket.destroyed && receiveDescriptors(fd, 1, 0) === WOULD_BLOCK;
  }

  /**
   * Receives every listening socket; the predecessor accepts nothing until `confirm`, or until this object is disposed of:
   * then it goes on. The descriptors are the caller's. Rejects when the predecessor refuses, disappears or stalls: it is
   * still in charge then, if it lives.
   */
  async takeOver(): Promise<LentListener[]> {
    const listeners: LentListener[] = [];
    try {
      this.#socket.write(encodeLine({ kind: 'takeOver', version: HANDOVER_VERSION }));
      await this.#receive(listeners);
      return listeners;
    } catch (thrown) {
      discardDescriptors(listeners.map(({ descriptor }) => descriptor));
      throw thrown;
    }
  }

  /**
   * Tells the predecessor that the node is served, so that it retires. Rejects with `CLOSED` when it has waited no longer: it
   * serves again, unless it is dead.
   */
  async confirm(): Promise<void> {
    if (!this.isAlive()) throw gone();
    await this.#say(encodeLine({ kind: 'taken' }));
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #receive(listeners: LentListener[]): Promise<void> {
    const deadlineMs = performance.now() + HANDOVER_TIMEOUT_MS;
    /** Descriptors whose line has not been read to its end yet. */
    const waiting: number[] = [];
    let text = '';
    try {
      for (;;) {
        const message = await this.#next(deadlineMs);
        waiting.push(...message.descriptors);
        text += message.bytes.toString('utf8');
        if (text.length > MAX_LINE_BYTES * 2) throw new AmbitError('DECODE', 'a line of the predecessor has no end');
        for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
          const line = decodeFromPredecessor(text.slice(0, end));
          text = text.slice(end + 1);
          if (line.kind === 'refused') throw new AmbitError('AGENT_UNREACHABLE', line.reason);
          if (line.kind === 'end') {
            if (line.count !== listeners.length) throw new AmbitError('DECODE', 'not every listener arrived');
            return;
          }
          for (const entry of line.entries) {
            const descriptor = waiting.shift();
            if (descriptor === undefined) throw new AmbitError('DECODE', 'a listener arrived without its socket');
            listeners.push({ ...entry, descriptor });
          }
          if (listeners.length > MAX_LISTENERS) throw new AmbitError('DECODE', 'too many listeners');
        }
      }
    } finally {
      discardDescriptors(waiting);
    }
  }

  async #next(deadlineMs: number): Promise<{ bytes: Buffer; descriptors: readonly number[] }> {
    for (;;) {
      const fd = findDescriptor(this.#socket);
      if (fd === undefined || this.#socket.destroyed) throw gone();
      const received = receiveDescriptors(fd, MAX_LINE_BYTES, LISTENERS_PER_PIECE);
      if (typeof received !== 'number') {
        if (received.bytes.length === 0) throw gone();
        return received;
      }
      if (received !== WOULD_BLOCK) {
        throw new AmbitError('SYSTEM_CALL', 'the hand-over socket is broken', { errno: -received });
      }
      if (performance.now() > deadlineMs) {
        throw new AmbitError('AGENT_UNREACHABLE', `the predecessor did not hand over within ${HANDOVER_TIMEOUT_MS} ms`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
    }
  }

  async #say(line: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket.write(line, (error) => (error ? reject(gone()) : resolve()));
    await promise;
  }
}

function gone(): AmbitError {
  return new AmbitError('CLOSED', 'the predecessor went away during the hand-over');
}
