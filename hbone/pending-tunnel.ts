/**
 * A tunnel that is wanted: waits for a session, sends its CONNECT, is told the answer. A CONNECT that the peer did not process
 * (REFUSED_STREAM, GOAWAY) goes back to the pool a bounded number of times. The handler hears exactly once, or never after
 * `cancel`.
 */
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { CANCEL } from '../reactor/http2/error-codes.ts';
import type { HeaderPair, ReceivedHeaders } from '../reactor/http2/headers.ts';
import type { Http2Stream, ResponseHandler } from '../reactor/http2/stream.ts';
import type { Timer } from '../reactor/loop.ts';
import type { PeerPool } from './peer-pool.ts';
import type { PoolContext, TunnelAttempt, TunnelOpenHandler, TunnelTarget } from './pool.ts';
import type { HboneSession } from './session.ts';

export class PendingTunnel implements TunnelAttempt, ResponseHandler {
  readonly #context: PoolContext;
  readonly #target: TunnelTarget;
  readonly #handler: TunnelOpenHandler;
  #pool: PeerPool | undefined;
  #stream: Http2Stream | undefined;
  #session: HboneSession | undefined;
  #timer: Timer | undefined;
  #attempts = 0;
  /** Answered or cancelled. */
  settled = false;

  constructor(context: PoolContext, target: TunnelTarget, handler: TunnelOpenHandler) {
    this.#context = context;
    this.#target = target;
    this.#handler = handler;
  }

  cancel(): void {
    if (this.settled) return;
    this.#settle();
    this.#pool?.forget(this);
    this.#stream?.resetWithCode(CANCEL, undefined);
  }

  /** Reports a failure at the next turn, so that no handler runs inside `open`. */
  refuseSoon(error: AmbitError): void {
    this.#context.loop.setTimer(0, () => this.refuse(error));
  }

  refuse(error: AmbitError, status?: number): void {
    if (this.settled) return;
    this.#settle();
    this.#handler.onRefused(error, status);
  }

  /** It stands in the queue of this pool. */
  waitIn(pool: PeerPool): void {
    this.#pool = pool;
    this.#startClock();
  }

  /** Sends the CONNECT on a session that has room. */
  start(pool: PeerPool, session: HboneSession): void {
    this.#pool = pool;
    this.#session = session;
    this.#attempts++;
    this.#startClock();
    try {
      this.#stream = session.http2.request(this.#headers(), true, this);
    } catch (thrown) {
      // Not inside `open`: the caller does not hold the attempt yet.
      const error = toAmbitError(thrown, 'USAGE');
      this.#context.loop.setTimer(0, () => this.onFailed(error));
    }
  }

  onResponse(headers: ReceivedHeaders, endStream: boolean): void {
    const stream = this.#stream;
    if (this.settled || stream === undefined) return;
    const status = headers.status;
    this.#settle();
    if (status === 200 && !endStream) {
      this.#handler.onOpen(stream);
      return;
    }
    stream.resetWithCode(CANCEL, undefined);
    this.#handler.onRefused(new AmbitError('TUNNEL_STATUS', `the peer answered ${status}`), status);
  }

  onFailed(error: AmbitError): void {
    if (this.settled) return;
    this.#stream = undefined;
    if (error.code !== 'STREAM_REFUSED' || this.#attempts >= this.#context.limits.maxAttempts) {
      this.refuse(error);
      return;
    }
    this.#context.counters.retries++;
    const session = this.#session;
    this.#session = undefined;
    this.#pool?.retry(this, session);
  }

  #headers(): HeaderPair[] {
    const { authority, headers } = this.#target;
    const list: HeaderPair[] = [
      [':method', 'CONNECT'],
      [':authority', authority],
    ];
    if (headers.baggage !== undefined) list.push(['baggage', headers.baggage]);
    if (headers.forwarded !== undefined) list.push(['forwarded', headers.forwarded]);
    if (headers.traceparent !== undefined) list.push(['traceparent', headers.traceparent]);
    return list;
  }

  /** One limit for all of it: waiting for a session with room, every attempt, the answer. */
  #startClock(): void {
    this.#timer ??= this.#context.loop.setTimer(this.#context.limits.responseTimeoutMs, () => this.#onTimeout());
  }

  #onTimeout(): void {
    const stream = this.#stream;
    const detail = stream === undefined ? 'no session had room for the tunnel' : 'the peer did not answer the CONNECT';
    if (stream === undefined) this.#pool?.forget(this);
    this.refuse(new AmbitError('TUNNEL_TIMEOUT', detail));
    stream?.resetWithCode(CANCEL, undefined);
  }

  #settle(): void {
    this.settled = true;
    this.#timer?.cancel();
  }
}
