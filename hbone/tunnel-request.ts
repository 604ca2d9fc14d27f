/**
 * A valid CONNECT on the server side, waiting for its verdict: `accept` (200, the bytes flow) or `refuse` (a status that
 * ends the stream). Bytes the client sends before are held by the stream, bounded by its window.
 */
import type { AmbitError } from '../core/errors.ts';
import type { SocketAddress } from '../core/ip.ts';
import type { HeaderList, ReceivedHeaders } from '../reactor/http2/headers.ts';
import type { Http2Stream } from '../reactor/http2/stream.ts';
import type { PeerIdentity } from './peer-identity.ts';
import type { Tunnel } from './tunnel.ts';

export class TunnelRequest<Tag> {
  /** As sent; already in the strict grammar of `parseAuthority`. */
  readonly authority: string;
  readonly peer: PeerIdentity;
  readonly remote: SocketAddress;
  /** The address the peer dialled. */
  readonly local: SocketAddress;
  /** What was given to `HboneServer.accept` with the socket (the pod). */
  readonly tag: Tag;
  readonly #stream: Http2Stream;

  /** @internal made by the server */
  constructor(
    stream: Http2Stream,
    authority: string,
    peer: PeerIdentity,
    facts: { readonly remote: SocketAddress; readonly local: SocketAddress; readonly tag: Tag },
  ) {
    this.#stream = stream;
    this.authority = authority;
    this.peer = peer;
    this.remote = facts.remote;
    this.local = facts.local;
    this.tag = facts.tag;
  }

  /** Of the CONNECT. Empty once an accepted tunnel has its end attached: nobody keeps them for the life of a tunnel. */
  get headers(): ReceivedHeaders {
    return this.#stream.peerHeaders;
  }

  /** True once the stream is gone: accepted tunnels that ended, refused and abandoned requests. */
  get abandoned(): boolean {
    return this.#stream.closed;
  }

  /** Called when the peer goes away before `accept` or `refuse`; never afterwards. */
  set onAbandoned(handler: (() => void) | undefined) {
    this.#stream.onAbandoned = handler;
  }

  /** Answers 200 with these further headers. Throws CLOSED when the request is abandoned. */
  accept(headers: HeaderList): Tunnel {
    this.#stream.respond([[':status', '200'], ...headers], false);
    this.#stream.onAbandoned = undefined;
    return this.#stream;
  }

  /** Answers with a status and ends the stream. Does nothing when the request is abandoned. `error`: why, for the caller's record. */
  refuse(status: 400 | 401 | 503, _error?: AmbitError): void {
    refuseStream(this.#stream, status);
  }
}

/** Answers with a bare status and ends the stream. */
export function refuseStream(stream: Http2Stream, status: 400 | 401 | 503): void {
  if (stream.closed) return;
  stream.onAbandoned = undefined;
  stream.respondAndEnd([[':status', String(status)]]);
}
