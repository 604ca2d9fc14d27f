/**
 * Copies both directions between an application's socket and a tunnel, or between two sockets, with half-close. Counts
 * exactly, ends exactly once, and never buffers: what one side does not accept stays with the other.
 */
import { AmbitError } from '../core/errors.ts';
import type { EventLoop } from '../reactor/loop.ts';
import type { TcpSocket } from '../reactor/tcp-socket.ts';
import type { Tunnel } from './tunnel.ts';

export interface SpliceResult {
  /** Bytes read from the (first) socket and accepted by the other side. */
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
  /** End both sides now (the socket with RST, the tunnel with a reset); `onEnd` is called with `error` before this returns. */
  abort(error: AmbitError): void;
}

export function spliceTunnel(
  _loop: EventLoop,
  _socket: TcpSocket,
  _tunnel: Tunnel,
  _onEnd: (result: SpliceResult) => void,
): Splice {
  throw new AmbitError('USAGE', 'not built yet');
}

/** `fromSocket`/`toSocket` are seen from `a`. */
export function spliceSockets(
  _loop: EventLoop,
  _a: TcpSocket,
  _b: TcpSocket,
  _onEnd: (result: SpliceResult) => void,
): Splice {
  throw new AmbitError('USAGE', 'not built yet');
}
