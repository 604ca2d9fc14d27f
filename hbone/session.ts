/**
 * One pooled client session: TCP connect, TLS handshake, identity of the peer, then HTTP/2.
 *
 *   dialing -> securing -> open -> draining -> closed        (a failure goes to closed from anywhere)
 *
 * The pool hears `onReady` or `onDialFailed` once, then `onRoom` whenever a tunnel may fit, and `onGone` when the session takes no
 * more tunnels.
 */
import { AmbitError } from '../core/errors.ts';
import { Http2Session } from '../reactor/http2/session.ts';
import type { Timer } from '../reactor/loop.ts';
import { type ConnectAttempt, connectTcp } from '../reactor/tcp-connect.ts';
import type { TcpSocket } from '../reactor/tcp-socket.ts';
import { TlsConnection } from '../reactor/tls/connection.ts';
import type { TlsContext } from '../reactor/tls/context.ts';
import type { TlsSession } from '../reactor/tls/session.ts';
import { readPeerIdentity } from './peer-identity.ts';
import type { PoolContext, TunnelTarget } from './pool.ts';

export type HboneSessionState = 'dialing' | 'securing' | 'open' | 'draining' | 'closed';

export interface HboneSessionOwner {
  onReady(session: HboneSession): void;
  onDialFailed(session: HboneSession, error: AmbitError): void;
  onRoom(session: HboneSession): void;
  /** Takes no further tunnels; may still carry some. */
  onGone(session: HboneSession): void;
  onClosed(session: HboneSession): void;
  /** A TLS session that the next dial can resume. */
  onTlsSession(tls: TlsSession): void;
}

export class HboneSession {
  readonly #context: PoolContext;
  readonly #target: TunnelTarget;
  readonly #owner: HboneSessionOwner;
  #state: HboneSessionState = 'dialing';
  #attempt: ConnectAttempt | undefined;
  #connection: TlsConnection | undefined;
  #http2: Http2Session | undefined;
  #idleTimer: Timer | undefined;
  /** DER of the peer's chain, kept where it may be judged again. */
  #chain: readonly Uint8Array[] = [];
  /** After a REFUSED_STREAM: what the peer evidently takes, although it announced more. */
  #learnedMaxStreams = Number.POSITIVE_INFINITY;

  constructor(context: PoolContext, target: TunnelTarget, resume: TlsSession | undefined, owner: HboneSessionOwner) {
    this.#context = context;
    this.#target = target;
    this.#owner = owner;
    context.counters.dials++;
    const { dial, netns, mark, clientIp, bindClientIp } = target;
    this.#attempt = connectTcp(
      context.loop,
      {
        to: dial,
        timeoutMs: context.limits.connectTimeoutMs,
        ...(netns === undefined ? {} : { netns }),
        ...(mark === undefined ? {} : { mark }),
        ...(bindClientIp === true ? { from: clientIp } : {}),
      },
      {
        onConnected: (socket) => this.#onConnected(socket, resume),
        onConnectFailed: (error) => this.#failDial(dialError(error)),
      },
    );
  }

  get state(): HboneSessionState {
    return this.#state;
  }

  /** The HTTP/2 session; only while open or draining. */
  get http2(): Http2Session {
    if (this.#http2 === undefined) throw new AmbitError('USAGE', `the session is ${this.#state}`);
    return this.#http2;
  }

  get activeStreams(): number {
    return this.#http2?.activeStreams ?? 0;
  }

  /** How many tunnels it carries at most, as far as is known now. */
  get capacity(): number {
    const announced = this.#http2?.maxStreams ?? this.#context.http2.peerMaxStreamsUntilTold;
    return Math.min(announced, this.#context.limits.maxStreamsPerSession, this.#learnedMaxStreams);
  }

  get hasRoom(): boolean {
    return this.#state === 'open' && this.activeStreams < this.capacity;
  }

  /** The peer refused a stream although there seemed to be room. */
  learnLimit(): void {
    this.#learnedMaxStreams = Math.max(1, Math.min(this.#learnedMaxStreams, this.activeStreams));
  }

  /** Judges the peer's certificates again; a session whose peer is not believed any more is cut. */
  recheckChain(): void {
    const error = this.#chain.length === 0 ? undefined : this.#context.checkChain?.(this.#chain);
    if (error !== undefined) this.close(error);
  }

  /** Takes no more tunnels; closes when its last one ends. */
  drain(): void {
    if (this.#http2 === undefined) this.close(new AmbitError('DRAINED', 'the session is not wanted any more'));
    else this.#http2.drain();
  }

  close(error: AmbitError): void {
    if (this.#state === 'closed') return;
    if (this.#http2 !== undefined) {
      this.#http2.close(error);
      return;
    }
    this.#attempt?.cancel();
    this.#connection?.abort();
    this.#setClosed();
  }

  #onConnected(socket: TcpSocket, resume: TlsSession | undefined): void {
    this.#attempt = undefined;
    const context = this.#target.tls();
    if (context instanceof AmbitError) {
      socket.close();
      this.#failDial(context);
      return;
    }
    this.#state = 'securing';
    this.#connection = this.#secure(socket, context, resume);
  }

  #secure(socket: TcpSocket, context: TlsContext, resume: TlsSession | undefined): TlsConnection {
    const connection: TlsConnection = new TlsConnection(this.#context.loop, socket, context, {
      timeoutMs: this.#context.limits.handshakeTimeoutMs,
      onSecure: () => this.#onSecure(connection),
      onHandshakeFailed: (error) => this.#failDial(error),
      ...(resume === undefined ? {} : { resume }),
    });
    return connection;
  }

  #onSecure(connection: TlsConnection): void {
    const refusal = this.#verify(connection);
    if (refusal !== undefined) {
      connection.abort();
      this.#failDial(refusal);
      return;
    }
    if (connection.resumed) this.#context.counters.resumptions++;
    connection.onSession = (tls) => this.#owner.onTlsSession(tls);
    this.#state = 'open';
    this.#http2 = new Http2Session(this.#context.runtime, connection, 'client', this.#context.http2, {
      onSettings: () => this.#owner.onRoom(this),
      onStreamEnded: () => this.#onStreamEnded(),
      onDraining: () => {
        this.#state = 'draining';
        this.#owner.onGone(this);
      },
      // A server that refuses our certificate says so after our handshake is complete.
      describeFailure: () =>
        connection.failureReason === '' ? undefined : new AmbitError('TLS_HANDSHAKE', connection.failureReason),
      onClosed: () => this.#setClosed(),
    });
    this.#watchIdle();
    this.#owner.onReady(this);
  }

  /** Why this peer is not the one that was asked for, or undefined. */
  #verify(connection: TlsConnection): AmbitError | undefined {
    if (connection.alpn !== '' && connection.alpn !== 'h2') {
      return new AmbitError('TLS_HANDSHAKE', 'the peer does not speak HTTP/2');
    }
    const peer = readPeerIdentity(connection.peerCertificates());
    if (peer instanceof AmbitError) return peer;
    if (!this.#target.expectedIdentities.includes(peer.identity)) {
      return new AmbitError('PEER_IDENTITY', `the peer is ${peer.identity}`);
    }
    if (this.#context.checkChain === undefined) return undefined;
    this.#chain = peer.chain;
    return this.#context.checkChain(peer.chain);
  }

  #onStreamEnded(): void {
    if (this.#state !== 'open') return;
    if (this.activeStreams === 0) {
      this.#learnedMaxStreams = Number.POSITIVE_INFINITY;
      this.#watchIdle();
    }
    this.#owner.onRoom(this);
  }

  /** Arms the idle release; a tunnel that opens meanwhile makes the timer do nothing. */
  #watchIdle(): void {
    this.#idleTimer?.cancel();
    this.#idleTimer = this.#context.loop.setTimer(this.#context.limits.idleReleaseMs, () => {
      if (this.#state === 'open' && this.activeStreams === 0) this.#http2?.drain();
    });
  }

  #failDial(error: AmbitError): void {
    if (this.#state === 'closed') return;
    this.#context.counters.dialFailures++;
    this.#state = 'closed';
    this.#owner.onDialFailed(this, error);
  }

  #setClosed(): void {
    if (this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    this.#idleTimer?.cancel();
    if (wasOpen) this.#owner.onGone(this);
    this.#owner.onClosed(this);
  }
}

/** No answer on the tunnel port usually means a NetworkPolicy; the operator is told so. */
function dialError(error: AmbitError): AmbitError {
  if (error.code !== 'CONNECT_TIMEOUT') return error;
  return new AmbitError('TUNNEL_TIMEOUT', 'the peer agent did not answer', { cause: error });
}
