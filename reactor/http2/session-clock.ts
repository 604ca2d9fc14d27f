/**
 * The one timer of a session, for what is due next in its life: a look whether the peer still speaks (PING, RFC 9113 section
 * 6.7), the second GOAWAY of a drain, or the end of the last flush. Setting one replaces the other.
 */
import { AmbitError } from '../../core/errors.ts';
import type { Timer } from '../loop.ts';
import { NO_ERROR } from './error-codes.ts';
import type { Http2Session } from './session.ts';

const PING_KEEPALIVE = Buffer.from('ambit-ka');

export class SessionClock {
  readonly #session: Http2Session;
  #timer: Timer | undefined;
  #heard = false;
  #pingSentAtMs = 0;

  constructor(session: Http2Session) {
    this.#session = session;
  }

  /** From now on the session ends when the peer is silent for an interval and does not answer a PING either. */
  watchPeer(): void {
    this.after(this.#session.limits.keepaliveIntervalMs, () => this.#look());
  }

  /** Does something else next, instead of watching the peer. */
  after(delayMs: number, handler: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#session.runtime.loop.setTimer(delayMs, handler);
  }

  /** Bytes of the peer have arrived. */
  heard(): void {
    this.#heard = true;
  }

  pong(): void {
    this.#pingSentAtMs = 0;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    const { limits, runtime } = this.#session;
    const { nowMs } = runtime.loop;
    if (this.#heard) {
      this.#heard = false;
      this.#pingSentAtMs = 0;
    } else if (this.#pingSentAtMs === 0) {
      this.#pingSentAtMs = nowMs;
      this.#session.ping(PING_KEEPALIVE);
    } else if (nowMs - this.#pingSentAtMs >= limits.keepaliveTimeoutMs) {
      runtime.counters.pingTimeouts++;
      const error = new AmbitError('PING_TIMEOUT', `no answer to PING for ${limits.keepaliveTimeoutMs} ms`);
      this.#session.fail(error, NO_ERROR);
      return;
    }
    this.watchPeer();
  }
}
