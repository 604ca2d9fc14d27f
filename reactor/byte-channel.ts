/**
 * What protocol engines and splices run on: a non-blocking, bidirectional byte channel driven by events of the loop.
 * `TcpSocket` and `TlsConnection` implement it.
 *
 * Calls never block and never throw for what a peer does. Results: `>= 0` bytes moved; `0` from `read` is the end of the
 * stream; negative is `-errno`, with `WOULD_BLOCK` when nothing can be done now. Wrong use (closed channel, range outside the
 * arena) throws AmbitError CLOSED or USAGE.
 */
import type { Arena } from './arena.ts';

/** `-EAGAIN`: nothing can be read or written now; wait for the event. */
export const WOULD_BLOCK = -11;

/** Interest bits; equal to EPOLLIN and EPOLLOUT. */
export const READABLE = 1;
export const WRITABLE = 4;

export interface ByteChannel {
  /** Reads up to `length` bytes (at least 1) to `offset`. May return less although more is there: the event comes again. */
  read(arena: Arena, offset: number, length: number): number;
  /**
   * Writes up to `length` bytes from `offset`; may accept only a part. After a part or WOULD_BLOCK the next write must begin
   * with the very bytes that were not accepted and offer at least as many (TLS has sealed some of them already).
   */
  write(arena: Arena, offset: number, length: number): number;
  /** READABLE and/or WRITABLE, or 0. Level-triggered; costs nothing when unchanged. */
  setInterest(interest: number): void;
  /** Who gets the events; settable at any time, also inside a callback. */
  owner: ChannelOwner;
  /** Ends our direction after what was written: FIN, on TLS close_notify and FIN. Reading goes on. Idempotent. */
  shutdownWrite(): void;
  /** Orderly end of both directions; frees everything. No callback follows. Idempotent. */
  close(): void;
  /** Ends with a reset (RST); frees everything. No callback follows. Idempotent. */
  abort(): void;
  readonly closed: boolean;
}

export interface ChannelOwner {
  /** Only with interest READABLE: data, end of stream or an error is there; `read` tells which. */
  onReadable(): void;
  /** Only with interest WRITABLE: `write` can accept bytes, or tells the error. */
  onWritable(): void;
  /** The channel failed while no interest was set (no read or write would have told). `errno` positive. The owner closes or aborts. */
  onBroken(errno: number): void;
}

/** Owner of a channel that nobody listens to yet; ignores everything. */
export const NO_OWNER: ChannelOwner = {
  onReadable() {},
  onWritable() {},
  onBroken() {},
};
