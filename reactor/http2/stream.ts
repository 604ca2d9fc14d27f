/**
 * One HTTP/2 stream (RFC 9113 section 5.1), either role. Bodies move by call: the session asks the attached `BodyEnd` to
 * fill its send arena and hands it received bytes from where they lie; what it does not take is held, without credit for the
 * peer, until `resumeReceiving`.
 *
 * A stream ends exactly once: `onClosed` of whatever is attached is the last call it makes.
 */
import { AmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import { WOULD_BLOCK } from '../byte-channel.ts';
import { errorOfReset, NO_ERROR, resetCodeOf } from './error-codes.ts';
import { type HeaderList, NO_HEADERS, type ReceivedHeaders } from './headers.ts';
import { HeldBytes } from './held-bytes.ts';
import type { Http2Session } from './session.ts';

/** What consumes and produces the bodies of a stream. */
export interface BodyEnd {
  /** Put up to `maxLength` bytes into the arena: bytes, 0 = end of our body, WOULD_BLOCK = later (`resumeSending`), other negative = reset. */
  fill(arena: Arena, offset: number, maxLength: number): number;
  /** Accept bytes now: 0..length; the rest is held until `resumeReceiving`. Negative = reset. */
  take(arena: Arena, offset: number, length: number): number;
  /** The peer's body is complete and everything was taken. */
  onRemoteEnd(trailers: ReceivedHeaders | undefined): void;
  /** Last call. No error: both bodies ended, or the peer ended the stream with NO_ERROR or CANCEL. */
  onClosed(error: AmbitError | undefined): void;
}

/** Who waits for the answer of a request. */
export interface ResponseHandler {
  /** The final response. `endStream`: it has no body. */
  onResponse(headers: ReceivedHeaders, endStream: boolean): void;
  /** The stream ended before an end was attached. */
  onFailed(error: AmbitError): void;
}

export class Http2Stream {
  readonly id: number;
  readonly #session: Http2Session;
  #end: BodyEnd | undefined;
  #waiter: ResponseHandler | undefined;
  #held: HeldBytes | undefined;
  #uncredited = 0;
  /** What the peer may still send. */
  #receiveWindow: number;
  readonly #creditStepBytes: number;
  #delivering = false;
  #remoteEnded = false;
  #remoteEndDelivered = false;
  #trailers: ReceivedHeaders | undefined;
  #ownTrailers: HeaderList | undefined;
  /** The engine has forgotten the stream; held bytes may remain. `#closeError` is what will be told. */
  #engineClosed = false;
  #doomed = false;
  #discarding = false;
  #discardedBytes = 0;
  #closeError: AmbitError | undefined;
  /** A response was sent (server) or received (client). */
  answered = false;
  closed = false;
  peerHeaders: ReceivedHeaders;
  bytesSent = 0;
  bytesReceived = 0;
  /** @internal Of the send scheduler: what we may still send, and the place in its queue. */
  sendWindow: number;
  /** @internal */
  sendState = 0;
  /** @internal */
  nextToSend: Http2Stream | undefined = undefined;
  /** @internal The engine checks the body against its announced length, so its DATA goes through the engine. */
  engineReceives = false;
  /** Server: the peer went away before an end was attached. */
  onAbandoned: ((error: AmbitError | undefined) => void) | undefined = undefined;

  /** @internal made by the session */
  constructor(
    session: Http2Session,
    id: number,
    headers: ReceivedHeaders,
    waiter: ResponseHandler | undefined,
    windows: { readonly send: number; readonly receive: number },
  ) {
    this.#session = session;
    this.id = id;
    this.peerHeaders = headers;
    this.#waiter = waiter;
    this.sendWindow = windows.send;
    this.#receiveWindow = windows.receive;
    this.#creditStepBytes = windows.receive >> 2;
  }

  get session(): Http2Session {
    return this.#session;
  }

  /** Received bytes waiting for the attached end. */
  get heldBytes(): number {
    return this.#held?.length ?? 0;
  }

  /** @internal The peer may send a body now. */
  get expectsBody(): boolean {
    return !this.#remoteEnded && !this.#engineClosed && !this.#doomed && (!this.closed || this.#discarding);
  }

  /** @internal The engine is about to reset the stream: what still arrives for it is void. */
  doom(): void {
    this.#doomed = true;
  }

  /** @internal DATA of this size has begun to arrive. False = the peer exceeds the stream's window. */
  charge(length: number): boolean {
    this.#receiveWindow -= length;
    return this.#receiveWindow >= 0;
  }

  /** @internal Bytes that count for flow control but carry nothing. */
  creditPadding(byteLength: number): void {
    this.#credit(byteLength);
  }

  /** @internal */
  get heldMemoryBytes(): number {
    return this.#held?.memoryBytes ?? 0;
  }

  /** Server: answers the request. `endStream`: without a body. */
  respond(headers: HeaderList, endStream: boolean): void {
    this.#assertOpen();
    this.answered = true;
    this.#session.submitResponse(this, headers, endStream);
    if (this.#end !== undefined && !endStream) this.resumeSending();
  }

  /**
   * Server: answers without a body and is done with the stream. What the client still sends is thrown away for a moment, so that
   * it can read the answer, then the stream is reset with NO_ERROR (RFC 9113 section 8.1).
   */
  respondAndEnd(headers: HeaderList): void {
    this.respond(headers, true);
    this.onAbandoned = undefined;
    if (this.#remoteEnded || this.#engineClosed) {
      this.#finish(undefined);
      return;
    }
    this.closed = true;
    this.#discarding = true;
    this.#held?.clear();
    this.#session.resetLater(this);
  }

  /** @internal Nothing more is thrown away: the client is told to stop. Idempotent. */
  stopDiscarding(code = NO_ERROR): void {
    if (!this.#discarding) return;
    this.#discarding = false;
    this.#session.submitReset(this, code);
    this.#session.forgetStream(this);
  }

  /** Our body ends after what `fill` gives, followed by these; the next `fill` must return 0. */
  endWithTrailers(trailers: HeaderList): void {
    this.#assertOpen();
    this.#ownTrailers = trailers;
    this.resumeSending();
  }

  /** Connects the bodies, once; bytes that arrived before are handed over before this returns. */
  attach(end: BodyEnd): void {
    if (this.#end !== undefined) throw new AmbitError('USAGE', 'the stream has an end attached already');
    this.#assertOpen();
    this.#end = end;
    this.onAbandoned = undefined;
    if (this.answered) {
      // Whoever attaches has read them; a tunnel that lives for days does not keep them.
      this.#waiter = undefined;
      this.peerHeaders = NO_HEADERS;
    }
    this.resumeSending();
    this.resumeReceiving();
  }

  resumeSending(): void {
    // A server's body follows its header section.
    if (this.#session.role === 'server' && !this.answered) return;
    if (!this.closed && !this.#engineClosed) this.#session.resumeStream(this);
  }

  resumeReceiving(): void {
    if (this.#delivering || this.closed || this.#end === undefined) return;
    const held = this.#held;
    if (held !== undefined && held.length > 0) {
      this.#delivering = true;
      const before = this.bytesReceived;
      const result = held.offer(this);
      this.#delivering = false;
      if (this.closed) return;
      if (result < 0) {
        this.#failTake();
        return;
      }
      this.#credit(this.bytesReceived - before);
      if (held.length > 0) return;
    }
    this.#deliverEnd();
  }

  /** Ends both directions now; the peer sees a reset whose code tells whose fault it was. Idempotent. */
  reset(error: AmbitError): void {
    this.resetWithCode(resetCodeOf(error), error);
  }

  /** As `reset`, with a chosen HTTP/2 error code; `error` undefined = a clean end for the attached side. */
  resetWithCode(code: number, error: AmbitError | undefined): void {
    this.stopDiscarding(code);
    if (this.closed) return;
    if (!this.#engineClosed) this.#session.submitReset(this, code);
    this.#finish(error);
  }

  // Called by the session.

  /** @internal */
  handleResponse(headers: ReceivedHeaders, endStream: boolean): void {
    this.answered = true;
    this.peerHeaders = headers;
    // Stays, to hear of an end that comes before `attach`.
    this.#waiter?.onResponse(headers, endStream);
  }

  /** @internal */
  handleTrailers(trailers: ReceivedHeaders): void {
    this.#trailers = trailers;
  }

  /** @internal Gives received bytes to the end, or holds them. */
  handleData(arena: Arena, offset: number, length: number): void {
    if (this.#discarding) {
      this.#discardedBytes += length;
      if (this.#discardedBytes > this.#session.limits.refusedBodyBytes) this.stopDiscarding();
    }
    if (this.closed) return;
    let taken = 0;
    if (this.#end !== undefined && (this.#held === undefined || this.#held.length === 0)) {
      this.#delivering = true;
      taken = this.take(arena, offset, length);
      this.#delivering = false;
      if (this.closed) return;
      if (taken < 0) {
        this.#failTake();
        return;
      }
      this.#credit(taken);
    }
    if (taken === length) return;
    this.#held ??= new HeldBytes(this.#session.held);
    this.#held.append(arena, offset + taken, length - taken);
    this.#session.held.enforce();
  }

  /** @internal Also what `HeldBytes.offer` calls: counts what the end takes. */
  take(arena: Arena, offset: number, length: number): number {
    const end = this.#end;
    if (end === undefined) return 0;
    const taken = end.take(arena, offset, length);
    if (taken > 0) this.bytesReceived += taken;
    return taken;
  }

  /** @internal */
  handleRemoteEnd(): void {
    this.#remoteEnded = true;
    this.#deliverEnd();
  }

  /** @internal Asks the end for bytes of our body. */
  handleFill(arena: Arena, offset: number, maxLength: number): number {
    const end = this.#end;
    if (end === undefined || this.closed) return WOULD_BLOCK;
    const filled = end.fill(arena, offset, maxLength);
    if (filled > 0) this.bytesSent += filled;
    else if (filled < 0 && filled !== WOULD_BLOCK) {
      this.reset(new AmbitError('STREAM_RESET', 'the sender of the stream failed'));
      return WOULD_BLOCK;
    }
    return filled;
  }

  /** @internal Trailers to send after the last `fill`, taken once. */
  takeTrailers(): HeaderList | undefined {
    const trailers = this.#ownTrailers;
    this.#ownTrailers = undefined;
    return trailers;
  }

  /** @internal The engine has forgotten the stream. */
  handleEngineClosed(code: number): void {
    if (this.#discarding) {
      this.#discarding = false;
      this.#session.forgetStream(this);
    }
    if (this.closed) return;
    this.#engineClosed = true;
    const error = errorOfReset(code);
    if (error !== undefined || (code !== NO_ERROR && this.#end === undefined)) {
      this.#finish(error ?? new AmbitError('STREAM_RESET', 'the peer cancelled the stream'));
      return;
    }
    this.#remoteEnded = true;
    this.#closeError = undefined;
    if (this.#end === undefined) this.#finish(new AmbitError('STREAM_RESET', 'the peer ended the stream'));
    else this.#deliverEnd();
  }

  /** @internal The session is gone. */
  handleSessionLost(error: AmbitError): void {
    if (this.closed) return;
    this.#engineClosed = true;
    this.#finish(error);
  }

  #deliverEnd(): void {
    if (!this.#remoteEnded || this.#delivering || this.#end === undefined || this.heldBytes > 0) return;
    if (!this.#remoteEndDelivered) {
      this.#remoteEndDelivered = true;
      this.#end.onRemoteEnd(this.#trailers);
    }
    if (this.#engineClosed && !this.closed) this.#finish(this.#closeError);
  }

  #credit(byteLength: number): void {
    if (this.#remoteEnded || this.#engineClosed) return;
    this.#uncredited += byteLength;
    if (this.#uncredited < this.#creditStepBytes) return;
    this.#receiveWindow += this.#uncredited;
    this.#session.creditStream(this, this.#uncredited);
    this.#uncredited = 0;
  }

  #failTake(): void {
    this.reset(new AmbitError('STREAM_RESET', 'the receiver of the stream failed'));
  }

  #finish(error: AmbitError | undefined): void {
    if (this.closed) return;
    this.closed = true;
    this.#held?.clear();
    this.#session.forgetStream(this);
    const end = this.#end;
    const waiter = this.#waiter;
    const onAbandoned = this.onAbandoned;
    this.#waiter = undefined;
    this.onAbandoned = undefined;
    if (end !== undefined) end.onClosed(error);
    else if (waiter !== undefined) waiter.onFailed(error ?? new AmbitError('STREAM_RESET', 'the stream was ended'));
    else onAbandoned?.(error);
  }

  #assertOpen(): void {
    if (this.closed) throw new AmbitError('CLOSED', 'the stream is closed');
  }
}
