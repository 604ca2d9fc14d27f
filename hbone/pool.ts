/**
 * The client side: opens tunnels over pooled sessions. One pool serves one worker; targets with the same source identity,
 * expected identities, address and client address share sessions (`PeerPool`).
 */
import { AmbitError } from '../core/errors.ts';
import type { IpAddress, SocketAddress } from '../core/ip.ts';
import type { SpiffeId } from '../core/spiffe.ts';
import { HBONE_HTTP2_LIMITS, type Http2Limits } from '../reactor/http2/limits.ts';
import { Http2Runtime } from '../reactor/http2/runtime.ts';
import type { EventLoop } from '../reactor/loop.ts';
import type { NetworkNamespace } from '../reactor/netns.ts';
import type { TlsContext } from '../reactor/tls/context.ts';
import { HBONE_LIMITS, type HboneLimits } from './limits.ts';
import { PeerPool } from './peer-pool.ts';
import { PendingTunnel } from './pending-tunnel.ts';
import type { ChainCheck } from './revocation.ts';
import type { Tunnel } from './tunnel.ts';

export interface TunnelTarget {
  /** Identity of the pod the connection comes from; part of the pool key. */
  readonly sourceIdentity: string;
  /** The peer's leaf must carry one of these; part of the pool key; an empty list always fails. */
  readonly expectedIdentities: readonly SpiffeId[];
  readonly dial: SocketAddress;
  /** Namespace of the source pod; absent = the agent's own. */
  readonly netns?: NetworkNamespace;
  readonly mark?: number;
  /** Part of the pool key: peers see one client address per session. */
  readonly clientIp: IpAddress;
  /** True: the session's socket is bound to `clientIp` (IP_TRANSPARENT). */
  readonly bindClientIp?: boolean;
  readonly tls: () => TlsContext | AmbitError;
  /** `:authority` of the CONNECT. */
  readonly authority: string;
  readonly headers: { readonly baggage?: string; readonly forwarded?: string; readonly traceparent?: string };
}

export interface TunnelOpenHandler {
  onOpen(tunnel: Tunnel): void;
  /** `status` when the peer answered with something else than 200. Never called inside `open`. */
  onRefused(error: AmbitError, status?: number): void;
}

export interface TunnelAttempt {
  /** Stop wanting; the handler is not called afterwards. Idempotent. */
  cancel(): void;
}

export interface TunnelPoolOptions
  extends Partial<
    Pick<
      HboneLimits,
      | 'connectTimeoutMs'
      | 'handshakeTimeoutMs'
      | 'responseTimeoutMs'
      | 'idleReleaseMs'
      | 'maxStreamsPerSession'
      | 'sessionsPerPeer'
      | 'maxWaitingPerPeer'
      | 'maxAttempts'
    >
  > {
  readonly http2?: Http2Limits;
  /** Further judgement on a peer's verified chain; asked again by `recheckChains`. */
  readonly checkChain?: ChainCheck | undefined;
}

export interface TunnelPoolStats {
  readonly sessions: number;
  /** Of these, sessions that take further tunnels. */
  readonly usable: number;
  readonly streams: number;
  readonly waiting: number;
  readonly dials: number;
  readonly dialFailures: number;
  /** Handshakes that resumed an earlier TLS session. */
  readonly resumptions: number;
  readonly retries: number;
}

/** What the pools of one worker share. */
export interface PoolContext {
  readonly loop: EventLoop;
  readonly runtime: Http2Runtime;
  readonly limits: HboneLimits;
  readonly http2: Http2Limits;
  readonly checkChain: ChainCheck | undefined;
  readonly counters: { dials: number; dialFailures: number; resumptions: number; retries: number };
}

export class TunnelPool {
  readonly #context: PoolContext;
  readonly #peers = new Map<string, PeerPool>();
  #closed = false;

  constructor(loop: EventLoop, options: TunnelPoolOptions = {}) {
    const { http2, checkChain, ...limits } = options;
    this.#context = {
      loop,
      runtime: Http2Runtime.of(loop),
      limits: { ...HBONE_LIMITS, ...limits },
      http2: http2 ?? HBONE_HTTP2_LIMITS,
      checkChain,
      counters: { dials: 0, dialFailures: 0, resumptions: 0, retries: 0 },
    };
  }

  /** Asks for a tunnel; `handler` is called once, later, unless the attempt is cancelled. */
  open(target: TunnelTarget, handler: TunnelOpenHandler): TunnelAttempt {
    const pending = new PendingTunnel(this.#context, target, handler);
    if (this.#closed) pending.refuseSoon(new AmbitError('DRAINED', 'the pool takes no new tunnels'));
    else this.#peerOf(target).open(pending, target);
    return pending;
  }

  get stats(): TunnelPoolStats {
    let sessions = 0;
    let usable = 0;
    let streams = 0;
    let waiting = 0;
    for (const peer of this.#peers.values()) {
      sessions += peer.sessionCount;
      usable += peer.usableCount;
      streams += peer.streamCount;
      waiting += peer.waitingCount;
    }
    return { sessions, usable, streams, waiting, ...this.#context.counters };
  }

  /** Sessions of this source identity take no further tunnels (certificate renewed, pod gone); they close when their last one ends. */
  drainIdentity(sourceIdentity: string): void {
    for (const peer of [...this.#peers.values()]) if (peer.sourceIdentity === sourceIdentity) peer.drainSessions();
  }

  /** What `checkChain` goes by has changed: sessions are judged again, TLS sessions of before are not resumed. */
  recheckChains(): void {
    for (const peer of [...this.#peers.values()]) peer.recheckChains();
  }

  /** No new tunnels; sessions close when their last stream ends. */
  drain(): void {
    this.#closed = true;
    for (const peer of [...this.#peers.values()]) peer.drain();
  }

  /** Close everything now; open tunnels end with DRAINED. */
  close(): void {
    this.#closed = true;
    for (const peer of [...this.#peers.values()]) peer.close();
  }

  #peerOf(target: TunnelTarget): PeerPool {
    const key = keyOf(target);
    let peer = this.#peers.get(key);
    if (peer === undefined) {
      const made = new PeerPool(this.#context, target, () => {
        if (this.#peers.get(key) === made) this.#peers.delete(key);
      });
      this.#peers.set(key, made);
      peer = made;
    }
    return peer;
  }
}

function keyOf(target: TunnelTarget): string {
  const { sourceIdentity, expectedIdentities, dial, clientIp, bindClientIp, netns } = target;
  const place = netns === undefined ? '' : `${netns.device}:${netns.inode}`;
  return `${sourceIdentity}|${dial.ip}|${dial.port}|${clientIp}|${bindClientIp === true}|${place}|${expectedIdentities.join(',')}`;
}
