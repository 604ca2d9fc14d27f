/**
 * The server side: takes accepted sockets, runs TLS and HTTP/2 on them, reads the peer's identity once per session and
 * turns each valid CONNECT into a `TunnelRequest`. It decides nothing about routing or policy.
 *
 *   accept -> TLS handshake -> identity -> HTTP/2 session -> CONNECT -> onConnect(request) -> accept | refuse
 */
import { AmbitError } from '../core/errors.ts';
import { type IpAddress, parseAuthority, type SocketAddress } from '../core/ip.ts';
import type { ReceivedHeaders } from '../reactor/http2/headers.ts';
import { HBONE_HTTP2_LIMITS, type Http2Limits } from '../reactor/http2/limits.ts';
import { Http2Runtime } from '../reactor/http2/runtime.ts';
import { Http2Session } from '../reactor/http2/session.ts';
import type { Http2Stream } from '../reactor/http2/stream.ts';
import type { EventLoop } from '../reactor/loop.ts';
import type { TcpSocket } from '../reactor/tcp-socket.ts';
import { TlsConnection } from '../reactor/tls/connection.ts';
import type { TlsContext } from '../reactor/tls/context.ts';
import { HBONE_LIMITS } from './limits.ts';
import { type PeerIdentity, readPeerIdentity } from './peer-identity.ts';
import type { ChainCheck } from './revocation.ts';
import { refuseStream, TunnelRequest } from './tunnel-request.ts';

export type { PeerIdentity } from './peer-identity.ts';
export type { TunnelRequest } from './tunnel-request.ts';

export interface SessionFacts<Tag> {
  readonly remote: SocketAddress;
  /** The address the peer dialled. */
  readonly local: SocketAddress;
  /** What was given to `accept` with the socket (the pod). */
  readonly tag: Tag;
}

export interface SessionRefusal<Tag> extends SessionFacts<Tag> {
  readonly error: AmbitError;
  /** Known when the handshake had succeeded. */
  readonly peer?: PeerIdentity;
}

export interface HboneServerOptions<Tag> {
  readonly tls: (local: SocketAddress, tag: Tag) => TlsContext | AmbitError;
  /** Peers must belong to it. */
  readonly trustDomain: string;
  readonly handshakeTimeoutMs?: number;
  readonly maxConcurrentHandshakes?: number;
  readonly maxHandshakesPerAddress?: number;
  readonly maxSessions?: number;
  readonly maxSessionsPerIdentity?: number;
  readonly http2?: Http2Limits;
  /** Further judgement on a peer's verified chain; asked again by `recheckChains`. */
  readonly checkChain?: ChainCheck | undefined;
  /** The bound on handshakes is reached: whoever listens should accept no more until told `false`. Beyond it they are refused. */
  readonly onCrowded?: (crowded: boolean) => void;
  /** Must end in `accept` or `refuse` (now or later), unless the request is abandoned. */
  readonly onConnect: (request: TunnelRequest<Tag>) => void;
  /** A request that was answered 400 here, before it became a `TunnelRequest`. */
  readonly onRequestRefused?: (facts: SessionRefusal<Tag>) => void;
  /** Handshake, identity or HTTP/2 failure of a whole session; every refusal of the limits tables ends here. */
  readonly onSessionRefused: (facts: SessionRefusal<Tag>) => void;
}

export interface HboneServerStats {
  readonly sessions: number;
  readonly handshaking: number;
  /** How often the bound on handshakes was reached, since the start. */
  readonly crowdedTimes: number;
  readonly streams: number;
  /** Sessions that reached HTTP/2, since the start. */
  readonly accepted: number;
  readonly refusedSessions: number;
}

interface Handshake<Tag> {
  readonly connection: TlsConnection;
  readonly address: IpAddress;
  readonly tag: Tag;
}

interface ServerSession<Tag> {
  readonly session: Http2Session;
  readonly tag: Tag;
  readonly facts: SessionFacts<Tag>;
  readonly peer: PeerIdentity;
}

/** Share of the bound on handshakes at which a crowded server has room again. */
const ROOM_AGAIN = 0.75;

export class HboneServer<Tag> {
  readonly #loop: EventLoop;
  readonly #runtime: Http2Runtime;
  readonly #options: HboneServerOptions<Tag>;
  readonly #http2: Http2Limits;
  readonly #handshakes = new Set<Handshake<Tag>>();
  readonly #handshakesPerAddress = new Map<IpAddress, number>();
  readonly #sessions = new Set<ServerSession<Tag>>();
  readonly #perIdentity = new Map<string, number>();
  #accepted = 0;
  #refused = 0;
  #draining = false;
  #crowded = false;
  #crowdedTimes = 0;

  constructor(loop: EventLoop, options: HboneServerOptions<Tag>) {
    this.#loop = loop;
    this.#runtime = Http2Runtime.of(loop);
    this.#options = options;
    this.#http2 = options.http2 ?? HBONE_HTTP2_LIMITS;
  }

  /** True while the bound on handshakes is reached (see `onCrowded`). */
  get crowded(): boolean {
    return this.#crowded;
  }

  get #maxHandshakes(): number {
    return this.#options.maxConcurrentHandshakes ?? HBONE_LIMITS.maxConcurrentHandshakes;
  }

  get stats(): HboneServerStats {
    let streams = 0;
    for (const { session } of this.#sessions) streams += session.activeStreams;
    return {
      sessions: this.#sessions.size,
      handshaking: this.#handshakes.size,
      crowdedTimes: this.#crowdedTimes,
      streams,
      accepted: this.#accepted,
      refusedSessions: this.#refused,
    };
  }

  /** Takes the socket over; every failure is reported through `onSessionRefused`. */
  accept(socket: TcpSocket, tag: Tag): void {
    const facts = this.#factsOf(socket, tag);
    if (facts === undefined) return;
    const options = this.#options;
    const refused =
      this.#draining ||
      this.#handshakes.size >= this.#maxHandshakes ||
      (this.#handshakesPerAddress.get(facts.remote.ip) ?? 0) >=
        (options.maxHandshakesPerAddress ?? HBONE_LIMITS.maxHandshakesPerAddress) ||
      this.#sessions.size >= (options.maxSessions ?? HBONE_LIMITS.maxSessions);
    const context = refused
      ? new AmbitError(this.#draining ? 'DRAINED' : 'SESSION_LIMIT', 'no further session is accepted now')
      : options.tls(facts.local, tag);
    if (context instanceof AmbitError) {
      socket.abort();
      this.#refuseSession(facts, context);
      return;
    }
    const connection = new TlsConnection(this.#loop, socket, context, {
      timeoutMs: options.handshakeTimeoutMs ?? HBONE_LIMITS.handshakeTimeoutMs,
      onSecure: () => {
        this.#endHandshake(handshake);
        this.#onSecure(connection, facts);
      },
      onHandshakeFailed: (error) => {
        this.#endHandshake(handshake);
        this.#refuseSession(facts, error);
      },
    });
    const handshake: Handshake<Tag> = { connection, tag, address: facts.remote.ip };
    this.#handshakes.add(handshake);
    add(this.#handshakesPerAddress, handshake.address, 1);
    if (!this.#crowded && this.#handshakes.size >= this.#maxHandshakes) this.#setCrowded(true);
  }

  /** What `checkChain` goes by has changed: sessions whose peer is not believed any more are cut. */
  recheckChains(): void {
    for (const { session, facts, peer } of [...this.#sessions]) {
      const error = this.#options.checkChain?.(peer.chain);
      if (error === undefined) continue;
      session.close(error);
      this.#refuseSession(facts, error, peer);
    }
  }

  /** Two phases: GOAWAY with the highest id, then the final one; sessions close when their streams end. `tag`: only its sessions. */
  drain(tag?: Tag): void {
    if (tag === undefined) this.#draining = true;
    for (const entry of [...this.#sessions]) if (tag === undefined || entry.tag === tag) entry.session.drain();
  }

  /** Close sessions now; tunnels end with DRAINED. `tag`: only its sessions. */
  close(tag?: Tag): void {
    if (tag === undefined) this.#draining = true;
    for (const handshake of [...this.#handshakes]) {
      if (tag !== undefined && handshake.tag !== tag) continue;
      this.#endHandshake(handshake);
      handshake.connection.abort();
    }
    const error = new AmbitError('DRAINED', 'the server was closed');
    for (const entry of [...this.#sessions]) if (tag === undefined || entry.tag === tag) entry.session.close(error);
  }

  #factsOf(socket: TcpSocket, tag: Tag): SessionFacts<Tag> | undefined {
    try {
      return { remote: socket.remoteAddress, local: socket.localAddress, tag };
    } catch {
      // The peer is gone before it was looked at: there is nobody to name in a refusal.
      socket.abort();
      return undefined;
    }
  }

  #endHandshake(handshake: Handshake<Tag>): void {
    if (!this.#handshakes.delete(handshake)) return;
    add(this.#handshakesPerAddress, handshake.address, -1);
    if (this.#crowded && this.#handshakes.size <= this.#maxHandshakes * ROOM_AGAIN) this.#setCrowded(false);
  }

  #setCrowded(crowded: boolean): void {
    this.#crowded = crowded;
    if (crowded) this.#crowdedTimes++;
    this.#options.onCrowded?.(crowded);
  }

  #onSecure(connection: TlsConnection, facts: SessionFacts<Tag>): void {
    const peer = readPeerIdentity(connection.peerCertificates(), this.#options.trustDomain);
    if (peer instanceof AmbitError) {
      connection.abort();
      this.#refuseSession(facts, peer);
      return;
    }
    const unbelieved = this.#options.checkChain?.(peer.chain);
    if (unbelieved !== undefined) {
      connection.abort();
      this.#refuseSession(facts, unbelieved, peer);
      return;
    }
    const count = (this.#perIdentity.get(peer.identity) ?? 0) + 1;
    if (count > (this.#options.maxSessionsPerIdentity ?? HBONE_LIMITS.maxSessionsPerIdentity)) {
      connection.abort();
      this.#refuseSession(facts, new AmbitError('SESSION_LIMIT', 'too many sessions of one identity'), peer);
      return;
    }
    this.#perIdentity.set(peer.identity, count);
    this.#accepted++;
    let badRequests = 0;
    const session = new Http2Session(this.#runtime, connection, 'server', this.#http2, {
      onRequest: (stream, headers) => {
        const error = this.#onRequest(stream, headers, peer, facts);
        if (error === undefined) return;
        this.#options.onRequestRefused?.({ ...facts, peer, error });
        badRequests++;
        if (badRequests > HBONE_LIMITS.badRequestsBurst) {
          session.close(new AmbitError('H2_FLOOD', 'limit badRequestsBurst exceeded'));
        }
      },
      onClosed: (error) => {
        this.#sessions.delete(entry);
        const left = (this.#perIdentity.get(peer.identity) ?? 1) - 1;
        if (left === 0) this.#perIdentity.delete(peer.identity);
        else this.#perIdentity.set(peer.identity, left);
        if (error !== undefined && isRefusal(error)) this.#refuseSession(facts, error, peer);
      },
    });
    const entry: ServerSession<Tag> = { session, tag: facts.tag, facts, peer };
    this.#sessions.add(entry);
    if (this.#draining) session.drain();
  }

  /** Returns the reason when the request was answered 400 here. */
  #onRequest(
    stream: Http2Stream,
    headers: ReceivedHeaders,
    peer: PeerIdentity,
    facts: SessionFacts<Tag>,
  ): AmbitError | undefined {
    const authority = headers.find(':authority') ?? '';
    let error: AmbitError | undefined;
    if (headers.find(':method') !== 'CONNECT') error = new AmbitError('BAD_METHOD', 'the request is not CONNECT');
    else if (parseAuthority(authority) === undefined) {
      error = new AmbitError('BAD_AUTHORITY', 'the authority is not host:port');
    }
    if (error === undefined) {
      this.#options.onConnect(new TunnelRequest<Tag>(stream, authority, peer, facts));
      return undefined;
    }
    refuseStream(stream, 400);
    return error;
  }

  #refuseSession(facts: SessionFacts<Tag>, error: AmbitError, peer?: PeerIdentity): void {
    this.#refused++;
    this.#options.onSessionRefused(peer === undefined ? { ...facts, error } : { ...facts, error, peer });
  }
}

/** Ends of a session that are the peer's fault; losing the connection or draining is none. */
function isRefusal(error: AmbitError): boolean {
  return error.code === 'H2_FLOOD' || error.code === 'H2_PROTOCOL' || error.code === 'PING_TIMEOUT';
}

/** Counts per key; keys whose count is zero are not kept. */
function add<Key>(counts: Map<Key, number>, key: Key, difference: 1 | -1): void {
  const count = (counts.get(key) ?? 0) + difference;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}
