/**
 * Copies both directions between an application's socket and a tunnel, with half-close. Never buffers: the tunnel's session
 * reads the socket straight into its send arena, and received bytes are written to the socket from where they lie; what the
 * socket does not take stays with the stream, without credit for the peer. Ends exactly once, with exact counts.
 */
import { AmbitError } from '../core/errors.ts';
import type { Arena } from '../reactor/arena.ts';
import { type ChannelOwner, READABLE, WOULD_BLOCK, WRITABLE } from '../reactor/byte-channel.ts';
import type { EventLoop } from '../reactor/loop.ts';
import type { TcpSocket } from '../reactor/tcp-socket.ts';
import type { Tunnel, TunnelEnd } from './tunnel.ts';

export interface SpliceResult {
  /** Bytes read from the (first) socket and given to the other side. */
  readonly fromSocket: number;
  /** Bytes written to the (first) socket. */
  readonly toSocket: number;
  /** Absent when both directions ended in order. */
  readonly error?: AmbitError;
}

export interface Splice {
  /** Live counters, exact. */
  readonly fromSocket: number;
  readonly toSocket: number;
  /** Ends both sides now (the socket with RST, the tunnel with a reset); `onEnd` is called with `error` before this returns. */
  abort(error: AmbitError): void;
  /**
   * Ends both sides in order, each sees the end of the stream; `onEnd` is called with `reason`, possibly later. False, and
   * nothing is done, while bytes are on their way through, and when one side has ended: it would take the rest for complete.
   */
  finish(reason: AmbitError): boolean;
}

type OnEnd = (result: SpliceResult) => void;

/** Takes socket and tunnel over. `loop`: the one both belong to. */
export function spliceTunnel(_loop: EventLoop, socket: TcpSocket, tunnel: Tunnel, onEnd: OnEnd): Splice {
  const splice = new TunnelSplice(socket, tunnel, onEnd);
  splice.start();
  return splice;
}

class TunnelSplice implements Splice, TunnelEnd, ChannelOwner {
  readonly #socket: TcpSocket;
  readonly #tunnel: Tunnel;
  readonly #onEnd: OnEnd;
  #interest = READABLE;
  /** The session was told that bytes are there and has not asked yet. */
  #announced = false;
  /** The last read gave less than asked: the socket is empty until the next event. */
  #drained = false;
  #localEnded = false;
  #remoteEnded = false;
  #failure: AmbitError | undefined;
  /** Why it is being ended in order. */
  #reason: AmbitError | undefined;
  #ended = false;
  fromSocket = 0;
  toSocket = 0;

  constructor(socket: TcpSocket, tunnel: Tunnel, onEnd: OnEnd) {
    this.#socket = socket;
    this.#tunnel = tunnel;
    this.#onEnd = onEnd;
  }

  start(): void {
    this.#socket.owner = this;
    this.#socket.setInterest(READABLE);
    this.#tunnel.attach(this);
  }

  abort(error: AmbitError): void {
    if (this.#ended) return;
    this.#failure = error;
    if (!this.#tunnel.closed) this.#tunnel.reset(error);
    this.#end(error);
  }

  finish(reason: AmbitError): boolean {
    if (this.#ended || this.#reason !== undefined) return true;
    if (this.#announced || (this.#interest & WRITABLE) !== 0 || this.#localEnded || this.#remoteEnded) return false;
    this.#reason = reason;
    this.#localEnded = true;
    this.#interest = 0;
    this.#socket.close();
    this.#tunnel.resumeSending();
    return true;
  }

  // The socket's events.

  onReadable(): void {
    this.#drained = false;
    // Told twice without being asked: the session cannot send now. Stop listening until it asks.
    if (this.#announced) this.#setInterest(this.#interest & ~READABLE);
    else {
      this.#announced = true;
      this.#tunnel.resumeSending();
    }
  }

  onWritable(): void {
    this.#setInterest(this.#interest & ~WRITABLE);
    this.#tunnel.resumeReceiving();
  }

  onBroken(errno: number): void {
    this.#failSocket(-errno);
  }

  // The tunnel's side.

  fill(arena: Arena, offset: number, maxLength: number): number {
    if (this.#localEnded) return 0;
    if (this.#ended) return WOULD_BLOCK;
    if (this.#drained) return this.#awaitBytes();
    const length = this.#socket.read(arena, offset, maxLength);
    if (length > 0) {
      this.fromSocket += length;
      this.#drained = length < maxLength;
      return length;
    }
    if (length === WOULD_BLOCK) return this.#awaitBytes();
    if (length === 0) {
      this.#localEnded = true;
      if (this.#remoteEnded) this.#socket.close();
      else this.#setInterest(this.#interest & ~READABLE);
      return 0;
    }
    this.#failure = socketError(length);
    return length;
  }

  take(arena: Arena, offset: number, length: number): number {
    // Nobody is left to give it to; the peer has been told.
    if (this.#reason !== undefined) return length;
    const written = this.#socket.write(arena, offset, length);
    if (written === length) {
      this.toSocket += written;
      return written;
    }
    if (written >= 0 || written === WOULD_BLOCK) {
      this.#setInterest(this.#interest | WRITABLE);
      if (written <= 0) return 0;
      this.toSocket += written;
      return written;
    }
    this.#failure = socketError(written);
    return written;
  }

  /** The socket is done with as soon as both directions have ended; what the tunnel still has to say needs it no more. */
  onRemoteEnd(): void {
    this.#remoteEnded = true;
    if (this.#localEnded) this.#socket.close();
    else this.#socket.shutdownWrite();
  }

  onClosed(error: AmbitError | undefined): void {
    this.#end(this.#failure ?? error);
  }

  #awaitBytes(): number {
    this.#announced = false;
    this.#setInterest(this.#interest | READABLE);
    return WOULD_BLOCK;
  }

  #failSocket(result: number): void {
    if (this.#ended) return;
    const error = socketError(result);
    this.#failure = error;
    this.#tunnel.reset(error);
    this.#end(error);
  }

  #end(error: AmbitError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    if (error !== undefined) this.#socket.abort();
    else this.#socket.close();
    const { fromSocket, toSocket } = this;
    const told = this.#reason ?? error;
    this.#onEnd(told === undefined ? { fromSocket, toSocket } : { fromSocket, toSocket, error: told });
  }

  #setInterest(interest: number): void {
    if (interest === this.#interest || this.#ended) return;
    this.#interest = interest;
    this.#socket.setInterest(interest);
  }
}

export function socketError(result: number): AmbitError {
  return new AmbitError('APPLICATION_RESET', 'the connection of the application failed', { errno: -result });
}
