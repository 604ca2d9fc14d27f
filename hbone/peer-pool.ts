/**
 * Sessions and waiting tunnels of one target. One dial at a time; its failure is shared by everybody who waits. A tunnel goes
 * to the first session with room; while all are full another session is opened, up to the bound, then tunnels wait for one to
 * end.
 */
import { AmbitError } from '../core/errors.ts';
import type { TlsSession } from '../reactor/tls/session.ts';
import type { PendingTunnel } from './pending-tunnel.ts';
import type { PoolContext, TunnelTarget } from './pool.ts';
import { HboneSession, type HboneSessionOwner } from './session.ts';

export class PeerPool implements HboneSessionOwner {
  readonly #context: PoolContext;
  /** The target the pool was made for; its authority and headers are of no meaning here. */
  #target: TunnelTarget;
  readonly #onEmpty: () => void;
  /** Open sessions that take tunnels. */
  readonly #usable: HboneSession[] = [];
  readonly #all = new Set<HboneSession>();
  #dialing: HboneSession | undefined;
  #waiting: PendingTunnel[] = [];
  #tlsSession: TlsSession | undefined;
  #closed = false;

  constructor(context: PoolContext, target: TunnelTarget, onEmpty: () => void) {
    this.#context = context;
    this.#target = target;
    this.#onEmpty = onEmpty;
  }

  get sourceIdentity(): string {
    return this.#target.sourceIdentity;
  }

  get sessionCount(): number {
    return this.#all.size;
  }

  get usableCount(): number {
    return this.#usable.length;
  }

  get streamCount(): number {
    let count = 0;
    for (const session of this.#all) count += session.activeStreams;
    return count;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  open(pending: PendingTunnel, target?: TunnelTarget): void {
    // Handles in a target (namespace, TLS) may be newer than those the pool began with.
    if (target !== undefined) this.#target = target;
    const session = this.#sessionWithRoom();
    if (session !== undefined && this.#waiting.length === 0) {
      pending.start(this, session);
      return;
    }
    if (this.#waiting.length >= this.#context.limits.maxWaitingPerPeer) {
      pending.refuseSoon(new AmbitError('STREAM_REFUSED', 'too many tunnels wait for this peer'));
      return;
    }
    this.#waiting.push(pending);
    pending.waitIn(this);
    this.#dialWhenNeeded();
  }

  /** A tunnel whose CONNECT was not processed comes back. */
  retry(pending: PendingTunnel, refusedBy: HboneSession | undefined): void {
    if (refusedBy?.state === 'open') refusedBy.learnLimit();
    if (this.#closed) pending.refuse(new AmbitError('DRAINED', 'the pool was closed'));
    else this.open(pending);
  }

  forget(pending: PendingTunnel): void {
    const index = this.#waiting.indexOf(pending);
    if (index >= 0) this.#waiting.splice(index, 1);
  }

  recheckChains(): void {
    this.#tlsSession = undefined;
    for (const session of [...this.#all]) session.recheckChain();
  }

  drainSessions(): void {
    this.#tlsSession = undefined;
    for (const session of [...this.#usable]) session.drain();
  }

  drain(): void {
    this.#closed = true;
    this.#refuseWaiting(new AmbitError('DRAINED', 'the pool takes no new tunnels'));
    for (const session of [...this.#all]) session.drain();
    this.#reportWhenEmpty();
  }

  close(): void {
    this.#closed = true;
    const error = new AmbitError('DRAINED', 'the pool was closed');
    this.#refuseWaiting(error);
    for (const session of [...this.#all]) session.close(error);
    this.#reportWhenEmpty();
  }

  // HboneSessionOwner

  onReady(session: HboneSession): void {
    this.#dialing = undefined;
    this.#usable.push(session);
    this.#serve();
  }

  onDialFailed(session: HboneSession, error: AmbitError): void {
    this.#dialing = undefined;
    this.#all.delete(session);
    this.#tlsSession = undefined;
    this.#refuseWaiting(error);
    this.#reportWhenEmpty();
  }

  onRoom(_session: HboneSession): void {
    if (this.#waiting.length > 0) this.#serve();
  }

  onGone(session: HboneSession): void {
    const index = this.#usable.indexOf(session);
    if (index >= 0) this.#usable.splice(index, 1);
    this.#dialWhenNeeded();
  }

  onClosed(session: HboneSession): void {
    this.#all.delete(session);
    if (this.#dialing === session) this.#dialing = undefined;
    this.#dialWhenNeeded();
    this.#reportWhenEmpty();
  }

  onTlsSession(tls: TlsSession): void {
    this.#tlsSession = tls;
  }

  #sessionWithRoom(): HboneSession | undefined {
    for (const session of this.#usable) if (session.hasRoom) return session;
    return undefined;
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const session = this.#sessionWithRoom();
      if (session === undefined) break;
      this.#waiting.shift()?.start(this, session);
    }
    this.#dialWhenNeeded();
  }

  #dialWhenNeeded(): void {
    if (this.#closed || this.#waiting.length === 0 || this.#dialing !== undefined) return;
    if (this.#usable.length >= this.#context.limits.sessionsPerPeer) return;
    try {
      const session = new HboneSession(this.#context, this.#target, this.#tlsSession, this);
      this.#dialing = session;
      this.#all.add(session);
    } catch (thrown) {
      const error = thrown instanceof AmbitError ? thrown : new AmbitError('USAGE', String(thrown), { cause: thrown });
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const pending of waiting) pending.refuseSoon(error);
    }
  }

  #refuseWaiting(error: AmbitError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const pending of waiting) pending.refuse(error);
  }

  #reportWhenEmpty(): void {
    if (this.#all.size === 0 && this.#waiting.length === 0) this.#onEmpty();
  }
}
