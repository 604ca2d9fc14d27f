/**
 * The receiving half of a session. Bytes are read into the loop's shared arena and go through at once: the payload of DATA
 * frames to its stream from where it lies, window updates to the send scheduler, the rest to the engine. Every frame is
 * counted against the limits before anybody looks at it. Connection credit is given as bytes arrive, so a stalled stream never
 * stalls its neighbours; what it may hold is bounded by its window and by the byte budgets.
 */
import { AmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import { type ByteChannel, WOULD_BLOCK } from '../byte-channel.ts';
import type { EngineGate } from './engine-gate.ts';
import { FLOW_CONTROL_ERROR, PROTOCOL_ERROR } from './error-codes.ts';
import type { FloodGuard } from './flood-guard.ts';
import { type FrameHandler, FrameWalker } from './frame-walker.ts';
import { FLAG_ACK, FLAG_END_STREAM, FRAME_CONTINUATION, FRAME_PING, FRAME_PRIORITY, FRAME_SETTINGS } from './frames.ts';
import type { ReceiveLedger } from './receive-ledger.ts';
import type { SendScheduler } from './send-scheduler.ts';
import type { Http2Session } from './session.ts';
import type { SessionClock } from './session-clock.ts';
import type { SessionOutput } from './session-output.ts';
import type { Http2Stream } from './stream.ts';
import type { StreamTable } from './stream-table.ts';

/** Bytes read per event before other sockets of the loop get their turn. */
const BYTES_PER_TURN = 1 << 20;
const MUCH_BYTES = 32 * 1024;
/** What is still read, and thrown away, after our last word, so that the peer can read that word before a reset. */
const MAX_DISCARDED_BYTES = 1 << 20;

export interface SessionInputParts {
  readonly streams: StreamTable;
  readonly scheduler: SendScheduler;
  readonly ledger: ReceiveLedger;
  readonly guard: FloodGuard;
  readonly gate: EngineGate;
  readonly output: SessionOutput;
  readonly clock: SessionClock;
}

export class SessionInput implements FrameHandler {
  readonly #session: Http2Session;
  readonly #channel: ByteChannel;
  readonly #streams: StreamTable;
  readonly #scheduler: SendScheduler;
  readonly #ledger: ReceiveLedger;
  readonly #guard: FloodGuard;
  readonly #gate: EngineGate;
  readonly #output: SessionOutput;
  readonly #clock: SessionClock;
  readonly #walker: FrameWalker;
  /** The stream whose DATA payload is arriving, and what of it has come. */
  #arriving: Http2Stream | undefined;
  #arrivedBytes = 0;
  #arrivingEnds = false;
  #discardedBytes = 0;

  constructor(session: Http2Session, channel: ByteChannel, parts: SessionInputParts) {
    this.#session = session;
    this.#channel = channel;
    this.#streams = parts.streams;
    this.#scheduler = parts.scheduler;
    this.#ledger = parts.ledger;
    this.#guard = parts.guard;
    this.#gate = parts.gate;
    this.#output = parts.output;
    this.#clock = parts.clock;
    this.#walker = new FrameWalker(this, session.role === 'server');
  }

  /** Reads what is there. */
  onReadable(): void {
    const session = this.#session;
    const arena = session.runtime.receiveArena;
    let total = 0;
    while (session.state !== 'closed' && total < BYTES_PER_TURN) {
      const length = this.#channel.read(arena, 0, arena.byteLength);
      if (length > 0) {
        total += length;
        this.#clock.heard();
        if (session.state !== 'closing') this.#walker.walk(arena, 0, length);
        else if (this.#discard(length)) return;
        // Little was there, so probably nothing is left: the event comes again if there is.
        if (length < MUCH_BYTES) return;
        continue;
      }
      if (length === WOULD_BLOCK) return;
      session.onChannelEnd(length);
      return;
    }
  }

  free(): void {
    this.#walker.free();
  }

  // FrameHandler

  onFrame(type: number, flags: number, streamId: number, _length: number, headerBlockBytes: number): boolean {
    const session = this.#session;
    if (headerBlockBytes > session.limits.maxHeaderListBytes) session.flood('maxHeaderListBytes');
    else if (type > FRAME_CONTINUATION) session.exceeds('unknownFrames');
    else if (type === FRAME_PRIORITY && streamId === 0)
      session.fail(new AmbitError('H2_PROTOCOL', 'PRIORITY of stream 0'), PROTOCOL_ERROR);
    else if (type === FRAME_PRIORITY) session.exceeds('priorities');
    else if (type === FRAME_PING && (flags & FLAG_ACK) === 0) session.exceeds('pings');
    else if (type === FRAME_SETTINGS && (flags & FLAG_ACK) === 0) session.exceeds('settings');
    return session.usable;
  }

  takesData(streamId: number, flags: number, length: number): boolean {
    const session = this.#session;
    const stream = this.#streams.find(streamId);
    if (stream === undefined || stream.engineReceives || !stream.expectsBody) return false;
    if (length > session.limits.maxFrameBytes || (session.role === 'client' && !stream.answered)) return false;
    this.#arriving = stream;
    this.#arrivedBytes = 0;
    this.#arrivingEnds = (flags & FLAG_END_STREAM) !== 0;
    if (!this.#ledger.charge(length)) {
      session.fail(new AmbitError('H2_PROTOCOL', 'the peer exceeded the window of the session'), FLOW_CONTROL_ERROR);
    } else if (!stream.charge(length)) {
      session.exceeds('invalidFrames');
      stream.resetWithCode(
        FLOW_CONTROL_ERROR,
        new AmbitError('H2_PROTOCOL', 'the peer exceeded the window of the stream'),
      );
    }
    return true;
  }

  onPayload(arena: Arena, offset: number, length: number): boolean {
    this.#arrivedBytes += length;
    this.#arriving?.handleData(arena, offset, length);
    return this.#session.usable;
  }

  onPayloadEnd(paddingBytes: number): boolean {
    if (paddingBytes > 0) this.#arriving?.creditPadding(paddingBytes);
    if (this.#arrivedBytes > 0 || this.#arrivingEnds) this.#guard.onData();
    else {
      const exceeded = this.#guard.onEmptyData();
      if (exceeded !== undefined) this.#session.flood(exceeded);
    }
    this.#arriving = undefined;
    if (this.#ledger.hasUpdates) this.#output.wantFlush();
    return this.#session.usable;
  }

  takesWindowUpdate(streamId: number, increment: number): boolean | undefined {
    const session = this.#session;
    if (streamId === 0) {
      if (increment === 0) session.fail(new AmbitError('H2_PROTOCOL', 'window update of zero'), PROTOCOL_ERROR);
      else if (!this.#scheduler.creditConnection(increment)) {
        session.fail(new AmbitError('H2_PROTOCOL', 'the window of the session overflows'), FLOW_CONTROL_ERROR);
      }
      if (!session.usable) return undefined;
      if (this.#scheduler.canSend) this.#output.wantFlush();
      return true;
    }
    const stream = this.#streams.find(streamId);
    if (stream === undefined) return false;
    const fine = increment > 0 && this.#scheduler.creditStream(stream, increment);
    if (!fine) {
      session.exceeds('invalidFrames');
      stream.resetWithCode(
        increment === 0 ? PROTOCOL_ERROR : FLOW_CONTROL_ERROR,
        new AmbitError('H2_PROTOCOL', 'window update out of range'),
      );
    } else if (this.#scheduler.canSend) this.#output.wantFlush();
    return session.usable ? true : undefined;
  }

  toEngine(arena: Arena, offset: number, length: number): boolean {
    if (!this.#gate.feed(arena, offset, length)) return false;
    this.#output.wakeEngine();
    return true;
  }

  /** Bytes that arrive after our GOAWAY are thrown away, up to a bound. True when the channel was closed. */
  #discard(length: number): boolean {
    this.#discardedBytes += length;
    if (this.#discardedBytes <= MAX_DISCARDED_BYTES) return false;
    this.#session.finish();
    return true;
  }
}
