/**
 * One HBONE tunnel: an established CONNECT stream seen from either side (RFC 9113 section 8.5). Bytes move by call, not
 * by event objects: the session asks the attached end to fill its send arena, and hands it received bytes from where
 * they lie. Each direction ends on its own; a tunnel is closed exactly once.
 */
import type { AmbitError } from '../core/errors.ts';
import type { Arena } from '../reactor/arena.ts';
import type { ReceivedHeaders } from '../reactor/http2/headers.ts';

/** What is attached at our end of a tunnel (a splice, a test). Methods are called on the loop's thread, never nested in themselves. */
export interface TunnelEnd {
  /** Put up to `maxLength` bytes into the arena. Bytes put, 0 = no more will come (half-close), WOULD_BLOCK = call `resumeSending` later, any other negative number = reset the tunnel. */
  fill(arena: Arena, offset: number, maxLength: number): number;
  /** Accept bytes now; returns how many (0..length). What is refused is held until `resumeReceiving`. A negative number resets the tunnel. */
  take(arena: Arena, offset: number, length: number): number;
  /** The peer will send no more and everything was taken. */
  onRemoteEnd(): void;
  /** The stream is gone; nothing is called afterwards. No error: both directions ended, or the peer cancelled cleanly (NO_ERROR, CANCEL). */
  onClosed(error: AmbitError | undefined): void;
}

export interface Tunnel {
  /** Payload bytes given to the session / taken by our end. Exact at every moment. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly closed: boolean;
  /** Headers of the peer: of the 200 on the client side, of the CONNECT on the server side. Empty after `attach`. */
  readonly peerHeaders: ReceivedHeaders;
  /** Attach our end; once. Bytes that arrived before are handed over at once. */
  attach(end: TunnelEnd): void;
  /** `fill` may have bytes (or the end of file) again. */
  resumeSending(): void;
  /** `take` can accept bytes again. */
  resumeReceiving(): void;
  /** End both directions now; the peer sees a reset, the end sees `onClosed(error)`. */
  reset(error: AmbitError): void;
}
