/**
 * The client side: opens tunnels over pooled sessions. One pool serves one worker; sessions are kept per target key
 * (source identity, expected identities, address dialled, client address).
 */
import { AmbitError } from '../core/errors.ts';
import type { IpAddress, SocketAddress } from '../core/ip.ts';
import type { SpiffeId } from '../core/spiffe.ts';
import type { EventLoop } from '../reactor/loop.ts';
import type { NetworkNamespace } from '../reactor/netns.ts';
import type { TlsContext } from '../reactor/tls/context.ts';
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
  /** `status` when the peer answered with something else than 200. */
  onRefused(error: AmbitError, status?: number): void;
}

export interface TunnelAttempt {
  /** Stop wanting; the handler is not called afterwards. */
  cancel(): void;
}

export interface TunnelPoolOptions {
  readonly connectTimeoutMs?: number;
  readonly handshakeTimeoutMs?: number;
  /** From CONNECT sent to answer. */
  readonly responseTimeoutMs?: number;
  readonly idleReleaseMs?: number;
  readonly maxStreamsPerSession?: number;
  readonly sessionsPerPeer?: number;
  readonly maxWaitingPerPeer?: number;
}

export interface TunnelPoolStats {
  readonly sessions: number;
  readonly streams: number;
  readonly waiting: number;
  readonly dials: number;
  readonly dialFailures: number;
  readonly retries: number;
}

export class TunnelPool {
  // biome-ignore lint/complexity/noUselessConstructor: contract first
  constructor(_loop: EventLoop, _options: TunnelPoolOptions = {}) {}
  open(_target: TunnelTarget, _handler: TunnelOpenHandler): TunnelAttempt {
    throw new AmbitError('USAGE', 'not built yet');
  }
  get stats(): TunnelPoolStats {
    throw new AmbitError('USAGE', 'not built yet');
  }
  /** Close the sessions of one source identity that have no streams, drain the others (certificate renewed or pod gone). */
  drainIdentity(_sourceIdentity: string): void {
    throw new AmbitError('USAGE', 'not built yet');
  }
  /** No new tunnels; sessions close when their last stream ends. */
  drain(): void {
    throw new AmbitError('USAGE', 'not built yet');
  }
  /** Close everything now; open tunnels end with DRAINED. */
  close(): void {
    throw new AmbitError('USAGE', 'not built yet');
  }
}
