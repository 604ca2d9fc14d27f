/**
 * The orderly end of a session (RFC 9113 section 6.8). A server says GOAWAY twice: first with the highest id, so that requests
 * on their way are still served; then, when the peer has answered a PING or after a time, with the last id it serves.
 */
import type { Nghttp2Session } from '../sys/nghttp2.ts';
import { NO_ERROR } from './error-codes.ts';
import type { Http2Session } from './session.ts';
import type { SessionClock } from './session-clock.ts';
import type { SessionOutput } from './session-output.ts';

const PING_DRAIN = Buffer.from('ambit-dr');

export class SessionDrain {
  readonly #session: Http2Session;
  readonly #engine: Nghttp2Session;
  readonly #output: SessionOutput;
  readonly #clock: SessionClock;
  #finalGoawaySent = false;
  #goawayReceived = false;

  constructor(
    session: Http2Session,
    parts: { readonly engine: Nghttp2Session; readonly output: SessionOutput; readonly clock: SessionClock },
  ) {
    this.#session = session;
    this.#engine = parts.engine;
    this.#output = parts.output;
    this.#clock = parts.clock;
  }

  /** One side has had its last word about new streams: the session ends with its last stream. */
  get agreed(): boolean {
    return this.#finalGoawaySent || this.#goawayReceived;
  }

  begin(): void {
    if (this.#session.role !== 'server') {
      this.#sendFinalGoaway();
      return;
    }
    this.#engine.submitShutdownNotice();
    this.#session.ping(PING_DRAIN);
    this.#clock.after(this.#session.limits.drainNoticeMs, () => this.#sendFinalGoaway());
  }

  onPong(): void {
    if (this.#session.role === 'server') this.#sendFinalGoaway();
  }

  onPeerGoaway(): void {
    this.#goawayReceived = true;
  }

  #sendFinalGoaway(): void {
    if (this.#finalGoawaySent || this.#session.state !== 'draining') return;
    this.#finalGoawaySent = true;
    this.#engine.submitGoaway(NO_ERROR);
    this.#output.wakeEngine();
    this.#clock.watchPeer();
  }
}
