/**
 * The server side: takes accepted sockets, runs TLS and HTTP/2 on them, reads the peer's identity once per session and
 * turns each valid CONNECT into a `TunnelRequest`. It decides nothing about routing or policy.
 */
import { AmbitError } from '../core/errors.ts';
import type { SocketAddress } from '../core/ip.ts';
import type { SpiffeId } from '../core/spiffe.ts';
import type { HeaderList, ReceivedHeaders } from '../reactor/http2/headers.ts';
import type { EventLoop } from '../reactor/loop.ts';
import type { TcpSocket } from '../reactor/tcp-socket.ts';
import type { TlsContext } from '../reactor/tls/context.ts';
import type { Tunnel } from './tunnel.ts';

export interface PeerIdentity {
  readonly identity: SpiffeId;
  /** DER, leaf first, verified. */
  readonly chain: readonly Uint8Array[];
}

export interface TunnelRequest<Tag> {
  /** As sent; already in the strict grammar of `parseAuthority`. */
  readonly authority: string;
  readonly headers: ReceivedHeaders;
  readonly peer: PeerIdentity;
  readonly remote: SocketAddress;
  /** The address the peer dialled. */
  readonly local: SocketAddress;
  /** What was given to `accept` with the socket (the pod). */
  readonly tag: Tag;
  /** True once the stream is gone, accepted or refused. */
  readonly abandoned: boolean;
  /** Called when the peer goes away before `accept`/`refuse`; not afterwards. */
  onAbandoned?: (() => void) | undefined;
  /** Answer 200 with these further headers; call only while not abandoned. */
  accept(headers: HeaderList): Tunnel;
  /** Answer with a status and end the stream. */
  refuse(status: 400 | 401 | 503, error: AmbitError): void;
}

export interface SessionRefusal<Tag> {
  readonly remote: SocketAddress;
  readonly local: SocketAddress;
  readonly tag: Tag;
  readonly error: AmbitError;
}

export interface HboneServerOptions<Tag> {
  readonly tls: (local: SocketAddress, tag: Tag) => TlsContext | AmbitError;
  /** Peers must belong to it. */
  readonly trustDomain: string;
  readonly handshakeTimeoutMs?: number;
  readonly maxConcurrentHandshakes?: number;
  readonly maxSessions?: number;
  readonly onConnect: (request: TunnelRequest<Tag>) => void;
  /** A CONNECT (or other request) that was answered 400 here, before it became a request. */
  readonly onRequestRefused?: (facts: SessionRefusal<Tag> & { readonly peer: PeerIdentity }) => void;
  /** Handshake, identity or HTTP/2 failure of a whole session; every refusal of the limits table ends here. */
  readonly onSessionRefused: (facts: SessionRefusal<Tag>) => void;
}

export interface HboneServerStats {
  readonly sessions: number;
  readonly handshaking: number;
  readonly streams: number;
  readonly accepted: number;
  readonly refusedSessions: number;
}

export class HboneServer<Tag> {
  // biome-ignore lint/complexity/noUselessConstructor: contract first
  constructor(_loop: EventLoop, _options: HboneServerOptions<Tag>) {}
  /** Takes the socket over. */
  accept(_socket: TcpSocket, _tag: Tag): void {
    throw new AmbitError('USAGE', 'not built yet');
  }
  get stats(): HboneServerStats {
    throw new AmbitError('USAGE', 'not built yet');
  }
  /** Two phases: GOAWAY with the highest id, then the final one; sessions close when their streams end. `tag`: only its sessions. */
  drain(_tag?: Tag): void {
    throw new AmbitError('USAGE', 'not built yet');
  }
  /** Close sessions now; tunnels end with DRAINED. `tag`: only its sessions. */
  close(_tag?: Tag): void {
    throw new AmbitError('USAGE', 'not built yet');
  }
}
