/**
 * One HTTP/2 connection (RFC 9113), client or server, on any `ByteChannel`.
 *
 *   open ──drain / GOAWAY──> draining ──last stream──> closing ──flushed──> closed
 *     └───────failure─────────────────────────────────────^
 *
 * Receiving: bytes are read into the loop's shared arena and go through the engine at once. Sending: at most one flush per
 * turn of the loop, into an arena that is borrowed only while there is something to send. Whatever fails inside an engine
 * callback takes effect after the engine has returned. Credit for the connection is given as bytes arrive, so a stalled
 * stream never stalls its neighbours; what it may hold is bounded by its window and by the byte budgets.
 */
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import { type ByteChannel, type ChannelOwner, READABLE, WOULD_BLOCK, WRITABLE } from '../byte-channel.ts';
import type { Timer, TurnTask } from '../loop.ts';
import {
  CATEGORY_HEADERS,
  CATEGORY_REQUEST,
  CATEGORY_RESPONSE,
  type EngineHandler,
  type EngineRole,
  HEADER_FAIL_SESSION,
  HEADER_OK,
  HEADER_REFUSE_STREAM,
  Nghttp2Session,
} from '../sys/nghttp2.ts';
import {
  ENHANCE_YOUR_CALM,
  errorCodeName,
  FLOW_CONTROL_ERROR,
  INTERNAL_ERROR,
  NO_ERROR,
  PROTOCOL_ERROR,
  REFUSED_STREAM,
} from './error-codes.ts';
import { type ExceededLimit, FloodGuard, type RatedLimit } from './flood-guard.ts';
import { type FrameHandler, FrameWalker } from './frame-walker.ts';
import {
  FLAG_ACK,
  FLAG_END_STREAM,
  FRAME_CONTINUATION,
  FRAME_GOAWAY,
  FRAME_HEADER_BYTES,
  FRAME_PING,
  FRAME_PRIORITY,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  SETTING_INITIAL_WINDOW_SIZE,
  SETTING_MAX_CONCURRENT_STREAMS,
  SETTING_MAX_FRAME_SIZE,
  writeFrameHeader,
  writeUint32,
  writeWindowUpdate,
} from './frames.ts';
import { type HeaderList, ReceivedHeaders } from './headers.ts';
import type { Http2Limits } from './limits.ts';
import { ReceiveLedger } from './receive-ledger.ts';
import { type Http2Runtime, SEND_ARENA_BYTES } from './runtime.ts';
import { SEND_DONE, SendScheduler } from './send-scheduler.ts';
import { Http2Stream, type ResponseHandler } from './stream.ts';
import { StreamTable } from './stream-table.ts';

export type SessionState = 'open' | 'draining' | 'closing' | 'closed';

export interface Http2SessionEvents {
  /** Server: a complete, valid request section has arrived. `endStream`: it has no body. */
  onRequest?(stream: Http2Stream, headers: ReceivedHeaders, endStream: boolean): void;
  /** The peer announced settings; `maxStreams` may have changed. */
  onSettings?(): void;
  /** No new streams from now on: the peer sent GOAWAY, or `drain` was called. */
  onDraining?(): void;
  /** A stream ended: there may be room for another. */
  onStreamEnded?(): void;
  /** Names a failure of the byte channel (`errno` positive), where its owner knows more than the number. */
  describeFailure?(errno: number): AmbitError | undefined;
  /** Last call. No error: closed in order by either side with no stream left. */
  onClosed(error: AmbitError | undefined): void;
}

/** Bytes read or written per event before other sockets of the loop get their turn. */
const BYTES_PER_TURN = 1 << 20;
const MUCH_BYTES = 32 * 1024;
/** What is still read, and thrown away, after our last word, so that the peer can read that word before a reset. */
const MAX_DISCARDED_BYTES = 1 << 20;
/** Near the end of the stream ids (RFC 9113 section 5.1.1) a session makes place for a new one. */
const LAST_CLIENT_STREAM_ID = 0x7fffff00;
const PING_KEEPALIVE = Buffer.from('ambit-ka');
const PING_DRAIN = Buffer.from('ambit-dr');

export class Http2Session implements EngineHandler, FrameHandler, ChannelOwner, TurnTask {
  readonly runtime: Http2Runtime;
  readonly role: EngineRole;
  readonly #channel: ByteChannel;
  readonly limits: Http2Limits;
  readonly #events: Http2SessionEvents;
  readonly #engine: Nghttp2Session;
  readonly #streams = new StreamTable();
  readonly #guard: FloodGuard;
  readonly #walker: FrameWalker;
  readonly #ledger: ReceiveLedger;
  readonly #scheduler = new SendScheduler();
  #state: SessionState = 'open';
  #inEngine = false;
  #failure: AmbitError | undefined;
  /** GOAWAY code still to be said by us; undefined = said, or the engine says it. */
  #goodbyeCode: number | undefined;
  #failureCode: number | undefined;
  #engineSpeaks = true;
  #lastPeerStreamId = 0;
  #discardedBytes = 0;
  #lingering = false;
  #flushWanted = false;
  #sendArena: Arena | undefined;
  #sendStart = 0;
  #sendEnd = 0;
  #writeBlocked = false;
  /** The engine may have something to say. */
  #engineDirty = true;
  /** The stream whose DATA payload is arriving, and what of it has come. */
  #arriving: Http2Stream | undefined;
  #arrivedBytes = 0;
  #arrivingEnds = false;
  #heldBytes = 0;
  #refused: Http2Stream[] = [];
  #refusedTimer: Timer | undefined;
  #collected: ReceivedHeaders | undefined;
  #collectedStreamId = 0;
  #timer: Timer | undefined;
  #heardSinceTimer = false;
  #pingSentAtMs = 0;
  #finalGoawaySent = false;
  #goawayReceived = false;
  #lastInvalid = '';
  #peerMaxStreams: number;

  constructor(
    runtime: Http2Runtime,
    channel: ByteChannel,
    role: EngineRole,
    limits: Http2Limits,
    events: Http2SessionEvents,
  ) {
    this.runtime = runtime;
    this.role = role;
    this.#channel = channel;
    this.limits = limits;
    this.#events = events;
    this.#guard = new FloodGuard(limits);
    this.#peerMaxStreams = limits.peerMaxStreamsUntilTold;
    this.#engine = new Nghttp2Session(role, this, limits);
    const server = role === 'server';
    this.#walker = new FrameWalker(this, server);
    this.#ledger = new ReceiveLedger(limits.connectionWindowBytes);
    this.#engine.announce(
      {
        initialWindowBytes: limits.initialWindowBytes,
        connectionWindowBytes: limits.connectionWindowBytes,
        maxFrameBytes: limits.maxFrameBytes,
        maxHeaderListBytes: server ? limits.maxHeaderListBytes : limits.maxRequestHeaderBytes,
        ...(server ? { maxConcurrentStreams: limits.maxConcurrentStreams } : {}),
      },
      role,
    );
    runtime.sessions.add(this);
    runtime.counters.sessionsOpened++;
    channel.owner = this;
    channel.setInterest(READABLE);
    this.#timer = runtime.loop.setTimer(limits.keepaliveIntervalMs, () => this.#onKeepalive());
    this.#wantFlush();
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Streams that are open now. */
  get activeStreams(): number {
    return this.#streams.size;
  }

  /** Streams we may have open at once as far as the peer has told. */
  get maxStreams(): number {
    return this.#peerMaxStreams;
  }

  /** True when a request can be sent without waiting for another stream to end. */
  get hasRoom(): boolean {
    return this.#state === 'open' && this.#streams.size < this.#peerMaxStreams;
  }

  /** Memory that holds received bytes nobody has taken. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * Client: sends a request. `hasBody`: `attach` an end to the stream to send one (a CONNECT always has). Throws
   * STREAM_REFUSED when the session has no room (`hasRoom`).
   */
  request(headers: HeaderList, hasBody: boolean, handler: ResponseHandler): Http2Stream {
    if (!this.hasRoom) throw new AmbitError('STREAM_REFUSED', `no room for a stream, the session is ${this.#state}`);
    const id = this.#engine.submitRequest(headers, !hasBody);
    if (id >= LAST_CLIENT_STREAM_ID) this.drain();
    const stream = this.#addStream(id, new ReceivedHeaders(), handler);
    if (!hasBody) stream.sendState = SEND_DONE;
    this.#wakeEngine();
    return stream;
  }

  /**
   * Asks the peer to open no more streams, then tells it (two GOAWAY frames for a server); the session closes when its last
   * stream ends. Idempotent.
   */
  drain(): void {
    if (this.#state !== 'open') return;
    this.#setState('draining');
    if (this.role === 'server') {
      this.#engine.submitShutdownNotice();
      this.#engineDirty = true;
      this.#engine.submitPing(PING_DRAIN);
      this.#setTimer(this.limits.drainNoticeMs, () => this.#sendFinalGoaway());
      this.#wantFlush();
    } else this.#sendFinalGoaway();
    this.#events.onDraining?.();
  }

  /** Ends the session and all its streams now; the peer is told with GOAWAY. Safe inside any callback. */
  close(error: AmbitError): void {
    this.#fail(error, NO_ERROR);
  }

  get #engineUsable(): boolean {
    return this.#state === 'open' || this.#state === 'draining';
  }

  // ChannelOwner

  onReadable(): void {
    const arena = this.runtime.receiveArena;
    let total = 0;
    while (this.#state !== 'closed' && total < BYTES_PER_TURN) {
      const length = this.#channel.read(arena, 0, arena.byteLength);
      if (length > 0) {
        total += length;
        this.#heardSinceTimer = true;
        if (this.#state !== 'closing') this.#walker.walk(arena, 0, length);
        else if (this.#discard(length)) return;
        // Little was there, so probably nothing is left: the event comes again if there is.
        if (length < MUCH_BYTES) return;
        continue;
      }
      if (length === WOULD_BLOCK) return;
      this.#onChannelEnd(length);
      return;
    }
  }

  onWritable(): void {
    this.#writeBlocked = false;
    this.runAtTurnEnd();
  }

  onBroken(errno: number): void {
    this.#onChannelEnd(-errno);
  }

  // TurnTask

  runAtTurnEnd(): void {
    this.#flushWanted = false;
    if (this.#state === 'closed' || this.#writeBlocked || this.#lingering) return;
    let budget = BYTES_PER_TURN;
    for (;;) {
      if (!this.#writePending()) return;
      if (budget <= 0) break;
      const produced = this.#produce();
      if (produced < 0) return;
      if (produced === 0) {
        this.#releaseSendArena();
        this.#channel.setInterest(READABLE);
        this.#afterFlush();
        return;
      }
      budget -= produced;
    }
    // Enough for one turn: go on when the channel says it is writable, after the others.
    this.#channel.setInterest(READABLE | WRITABLE);
  }

  // Called by streams.

  /** @internal */
  submitResponse(stream: Http2Stream, headers: HeaderList, endStream: boolean): void {
    this.#engine.submitHeaders(stream.id, headers, endStream);
    if (endStream) stream.sendState = SEND_DONE;
    this.#wakeEngine();
  }

  /** @internal */
  submitReset(stream: Http2Stream, code: number): void {
    if (!this.#engineUsable) return;
    this.#engine.submitReset(stream.id, code);
    this.#wakeEngine();
  }

  /** @internal Ends a refused stream after a moment (a reset at once would overtake its answer). */
  resetLater(stream: Http2Stream): void {
    this.#refused.push(stream);
    this.#refusedTimer ??= this.runtime.loop.setTimer(this.limits.refusedGraceMs, () => this.#resetRefused());
  }

  /** @internal */
  resumeStream(stream: Http2Stream): void {
    if (!this.#engineUsable) return;
    this.#scheduler.enqueue(stream);
    this.#wantFlush();
  }

  /** @internal */
  creditStream(stream: Http2Stream, byteLength: number): void {
    if (!this.#engineUsable) return;
    if (stream.engineReceives) {
      this.#engine.creditStream(stream.id, byteLength);
      this.#engineDirty = true;
    } else this.#ledger.update(stream.id, byteLength);
    this.#wantFlush();
  }

  /** @internal */
  forgetStream(stream: Http2Stream): void {
    this.#streams.remove(stream);
    if (this.#state === 'closed' || this.#state === 'closing') return;
    this.#events.onStreamEnded?.();
    if (this.#streams.size === 0 && this.#state === 'draining') this.#wantFlush();
  }

  /** @internal */
  accountHeld(deltaBytes: number): void {
    this.#heldBytes += deltaBytes;
  }

  /** @internal Resets the streams that hold most while a byte budget is exceeded. */
  enforceHeldBudget(): void {
    while (this.#heldBytes > this.limits.sessionHeldBytes) {
      if (!resetLargestHolder([this], this.runtime)) return;
    }
    while (this.runtime.heldBytes > this.limits.workerHeldBytes) {
      if (!resetLargestHolder(this.runtime.sessions, this.runtime)) return;
    }
  }

  /** @internal */
  largestHolder(): Http2Stream | undefined {
    let largest: Http2Stream | undefined;
    for (const stream of this.#streams.toArray()) {
      if (stream.heldMemoryBytes > (largest?.heldMemoryBytes ?? 0)) largest = stream;
    }
    return largest;
  }

  // EngineHandler

  onHeader(streamId: number, category: number, name: string, value: string): number {
    if (this.#collectedStreamId !== streamId || this.#collected === undefined) {
      this.#collected = new ReceivedHeaders();
      this.#collectedStreamId = streamId;
    }
    const headers = this.#collected;
    headers.append(name, value);
    if (headers.byteLength <= this.limits.maxRequestHeaderBytes && headers.count <= this.limits.maxHeaderFields) {
      return HEADER_OK;
    }
    if (headers.byteLength > this.limits.maxHeaderListBytes) {
      this.#flood('maxHeaderListBytes');
      return HEADER_FAIL_SESSION;
    }
    if (category === CATEGORY_REQUEST && this.#exceeds('earlyResets')) return HEADER_FAIL_SESSION;
    return HEADER_REFUSE_STREAM;
  }

  onHeaders(streamId: number, category: number, endStream: boolean): void {
    const headers = this.#collectedStreamId === streamId ? this.#collected : undefined;
    this.#collected = undefined;
    this.#collectedStreamId = 0;
    const section = headers ?? new ReceivedHeaders();
    if (category === CATEGORY_REQUEST) {
      if (this.#failure !== undefined) return;
      this.#lastPeerStreamId = streamId;
      const stream = this.#addStream(streamId, section, undefined);
      stream.engineReceives = section.find('content-length') !== undefined;
      if (this.#events.onRequest === undefined) stream.resetWithCode(REFUSED_STREAM, undefined);
      else this.#events.onRequest(stream, section, endStream);
      return;
    }
    const stream = this.#streams.find(streamId);
    if (stream === undefined) return;
    const response = category === CATEGORY_RESPONSE || (category === CATEGORY_HEADERS && !stream.answered);
    if (!response) stream.handleTrailers(section);
    else if (section.status >= 200 || section.status === 0) {
      stream.engineReceives = section.find('content-length') !== undefined;
      stream.handleResponse(section, endStream);
    }
  }

  /** DATA that went through the engine: of streams with an announced length, and of streams we know no more. */
  onData(streamId: number, offset: number, length: number): void {
    this.#guard.onData();
    this.#engine.creditConnection(length);
    const stream = this.#streams.find(streamId);
    if (stream === undefined) this.#engine.creditStream(streamId, length);
    else if (stream.engineReceives) stream.handleData(this.runtime.receiveArena, offset, length);
    else this.#fail(new AmbitError('USAGE', 'DATA of a stream of ours went through the engine'), INTERNAL_ERROR);
  }

  onEndStream(streamId: number): void {
    this.#streams.find(streamId)?.handleRemoteEnd();
  }

  onControl(type: number, flags: number, streamId: number, value: number): void {
    switch (type) {
      case FRAME_RST_STREAM: {
        const stream = this.#streams.find(streamId);
        this.#exceeds(stream === undefined || stream.answered ? 'resets' : 'earlyResets');
        return;
      }
      case FRAME_SETTINGS:
        if ((flags & FLAG_ACK) === 0) this.#onSettings();
        return;
      case FRAME_PING:
        if ((flags & FLAG_ACK) !== 0) this.#onPong();
        return;
      case FRAME_GOAWAY:
        this.#goawayReceived = true;
        if (value !== NO_ERROR) this.#lastInvalid = `the peer sent GOAWAY ${errorCodeName(value)}`;
        if (this.#state === 'open') {
          this.#setState('draining');
          this.#events.onDraining?.();
        }
        this.#wantFlush();
        return;
      default:
    }
  }

  onInvalidFrame(type: number, streamId: number, engineError: number): void {
    this.#lastInvalid = `frame of type ${type} on stream ${streamId} is invalid (engine ${engineError})`;
    this.#streams.find(streamId)?.doom();
    this.#exceeds('invalidFrames');
  }

  onStreamClosed(streamId: number, errorCode: number): void {
    this.#streams.find(streamId)?.handleEngineClosed(errorCode);
  }

  // FrameHandler

  onFrame(type: number, flags: number, streamId: number, _length: number, headerBlockBytes: number): boolean {
    if (headerBlockBytes > this.limits.maxHeaderListBytes) this.#flood('maxHeaderListBytes');
    else if (type > FRAME_CONTINUATION) this.#exceeds('unknownFrames');
    else if (type === FRAME_PRIORITY && streamId === 0)
      this.#fail(new AmbitError('H2_PROTOCOL', 'PRIORITY of stream 0'), PROTOCOL_ERROR);
    else if (type === FRAME_PRIORITY) this.#exceeds('priorities');
    else if (type === FRAME_PING && (flags & FLAG_ACK) === 0) this.#exceeds('pings');
    else if (type === FRAME_SETTINGS && (flags & FLAG_ACK) === 0) this.#exceeds('settings');
    return this.#engineUsable;
  }

  takesData(streamId: number, flags: number, length: number): boolean {
    const stream = this.#streams.find(streamId);
    if (stream === undefined || stream.engineReceives || !stream.expectsBody) return false;
    if (length > this.limits.maxFrameBytes || (this.role === 'client' && !stream.answered)) return false;
    this.#arriving = stream;
    this.#arrivedBytes = 0;
    this.#arrivingEnds = (flags & FLAG_END_STREAM) !== 0;
    if (!this.#ledger.charge(length)) {
      this.#fail(new AmbitError('H2_PROTOCOL', 'the peer exceeded the window of the session'), FLOW_CONTROL_ERROR);
    } else if (!stream.charge(length)) {
      this.#exceeds('invalidFrames');
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
    return this.#engineUsable;
  }

  onPayloadEnd(paddingBytes: number): boolean {
    if (paddingBytes > 0) this.#arriving?.creditPadding(paddingBytes);
    if (this.#arrivedBytes > 0 || this.#arrivingEnds) this.#guard.onData();
    else this.#check(this.#guard.onEmptyData());
    this.#arriving = undefined;
    if (this.#ledger.hasUpdates) this.#wantFlush();
    return this.#engineUsable;
  }

  takesWindowUpdate(streamId: number, increment: number): boolean | undefined {
    if (streamId === 0) {
      if (increment === 0) this.#fail(new AmbitError('H2_PROTOCOL', 'window update of zero'), PROTOCOL_ERROR);
      else if (!this.#scheduler.creditConnection(increment)) {
        this.#fail(new AmbitError('H2_PROTOCOL', 'the window of the session overflows'), FLOW_CONTROL_ERROR);
      }
      if (!this.#engineUsable) return undefined;
      if (this.#scheduler.canSend) this.#wantFlush();
      return true;
    }
    const stream = this.#streams.find(streamId);
    if (stream === undefined) return false;
    const fine = increment > 0 && this.#scheduler.creditStream(stream, increment);
    if (!fine) {
      this.#exceeds('invalidFrames');
      stream.resetWithCode(
        increment === 0 ? PROTOCOL_ERROR : FLOW_CONTROL_ERROR,
        new AmbitError('H2_PROTOCOL', 'window update out of range'),
      );
    } else if (this.#scheduler.canSend) this.#wantFlush();
    return this.#engineUsable ? true : undefined;
  }

  toEngine(arena: Arena, offset: number, length: number): boolean {
    this.#inEngine = true;
    try {
      this.#engine.receive(arena, offset, length);
    } catch (thrown) {
      this.#inEngine = false;
      const error = toAmbitError(thrown, 'H2_PROTOCOL');
      this.#fail(this.#failure ?? error, error.code === 'H2_PROTOCOL' ? PROTOCOL_ERROR : INTERNAL_ERROR);
      return false;
    }
    this.#inEngine = false;
    this.#engineDirty = true;
    if (this.#applyFailure()) return false;
    this.#wantFlush();
    return true;
  }

  #addStream(id: number, headers: ReceivedHeaders, waiter: ResponseHandler | undefined): Http2Stream {
    const stream = new Http2Stream(this, id, headers, waiter, {
      send: this.#scheduler.initialWindow,
      receive: this.limits.initialWindowBytes,
    });
    this.#streams.add(stream);
    this.runtime.counters.streamsOpened++;
    return stream;
  }

  #onSettings(): void {
    const engine = this.#engine;
    this.#peerMaxStreams = engine.peerSetting(SETTING_MAX_CONCURRENT_STREAMS);
    const fine = this.#scheduler.applySettings(
      engine.peerSetting(SETTING_INITIAL_WINDOW_SIZE),
      engine.peerSetting(SETTING_MAX_FRAME_SIZE),
      this.#streams.toArray(),
    );
    if (!fine) this.#fail(new AmbitError('H2_PROTOCOL', 'a window overflows'), FLOW_CONTROL_ERROR);
    else this.#events.onSettings?.();
  }

  /** The engine ended the session by itself; its GOAWAY is sent. */
  #onEngineGaveUp(): void {
    const detail = this.#lastInvalid === '' ? 'the peer broke the protocol' : this.#lastInvalid;
    this.#fail(new AmbitError('H2_PROTOCOL', detail), undefined);
  }

  /** Serialises into the send arena, whose old content is written. Bytes produced, or -1 when the session failed meanwhile. */
  #produce(): number {
    this.#sendStart = 0;
    this.#sendEnd = 0;
    if (!this.#engineSpeaks) {
      if (this.#goodbyeCode === undefined) return 0;
      this.#sendArena ??= this.runtime.takeSendArena();
      this.#sendEnd = writeGoaway(this.#sendArena.bytes, this.#lastPeerStreamId, this.#goodbyeCode);
      this.#goodbyeCode = undefined;
      return this.#sendEnd;
    }
    if (!this.#engineDirty && !this.#scheduler.canSend && !this.#ledger.hasUpdates) return 0;
    this.#sendArena ??= this.runtime.takeSendArena();
    const arena = this.#sendArena;
    let position = this.#ledger.write(arena, 0, SEND_ARENA_BYTES);
    do {
      position = this.#serialiseEngine(arena, position);
      if (position < 0) return -1;
      // Header frames come before the bodies they open.
      if (this.#engine.sendIncomplete || !this.#engineUsable) break;
      position = this.#scheduler.fill(arena, position, SEND_ARENA_BYTES);
      if (!this.#engineUsable) break;
      if (this.#scheduler.ended !== undefined) this.#endBody(this.#scheduler.ended, arena, position);
    } while (this.#engineDirty);
    this.#sendEnd = position;
    return position;
  }

  /** Control and header frames of the engine. Returns the new position, or -1 when the session failed. */
  #serialiseEngine(arena: Arena, position: number): number {
    if (!this.#engineDirty) return position;
    this.#engineDirty = false;
    this.#inEngine = true;
    let produced = 0;
    try {
      produced = this.#engine.send(arena, position, SEND_ARENA_BYTES - position);
    } catch (thrown) {
      this.#inEngine = false;
      this.#fail(this.#failure ?? toAmbitError(thrown, 'H2_PROTOCOL'), INTERNAL_ERROR);
      return -1;
    }
    this.#inEngine = false;
    if (this.#engine.sendIncomplete) this.#engineDirty = true;
    this.#sendEnd = position + produced;
    if (this.#applyFailure()) return -1;
    return position + produced;
  }

  /** Our body of this stream is complete: the engine says END_STREAM, with the trailers if there are any. */
  #endBody(stream: Http2Stream, arena: Arena, position: number): void {
    const trailers = stream.takeTrailers();
    if (trailers !== undefined) this.#engine.submitHeaders(stream.id, trailers, true);
    else {
      // The engine holds even an empty DATA frame while it believes the window is closed; our windows are not its own.
      if (this.#scheduler.initialWindow <= 0) {
        writeWindowUpdate(arena.bytes, position, stream.id, 1);
        if (!this.toEngine(arena, position, FRAME_HEADER_BYTES + 4)) return;
      }
      this.#engine.submitEnd(stream.id);
    }
    this.#engineDirty = true;
  }

  /** Writes what lies in the send arena; false when the channel is blocked or gone. */
  #writePending(): boolean {
    const arena = this.#sendArena;
    if (arena === undefined) return true;
    while (this.#sendStart < this.#sendEnd) {
      const written = this.#channel.write(arena, this.#sendStart, this.#sendEnd - this.#sendStart);
      if (written > 0) {
        this.#sendStart += written;
        continue;
      }
      if (written === WOULD_BLOCK || written === 0) {
        this.#writeBlocked = true;
        this.#channel.setInterest(READABLE | WRITABLE);
      } else this.#onChannelEnd(written);
      return false;
    }
    return true;
  }

  #resetRefused(): void {
    const refused = this.#refused;
    this.#refused = [];
    this.#refusedTimer = undefined;
    for (const stream of refused) stream.stopDiscarding();
  }

  /** Everything is on its way: closes a session that has nothing left to do. */
  #afterFlush(): void {
    if (this.#state === 'closing') {
      if (!this.#lingering) this.#channel.shutdownWrite();
      this.#lingering = true;
      return;
    }
    const idle = this.#state === 'draining' && this.#streams.size === 0;
    if (idle && (this.#finalGoawaySent || this.#goawayReceived)) this.#finish();
    else if (this.#engine.goawaySent && !this.#engine.wantsRead) this.#onEngineGaveUp();
  }

  #onKeepalive(): void {
    const limits = this.limits;
    const nowMs = this.runtime.loop.nowMs;
    if (this.#heardSinceTimer) {
      this.#heardSinceTimer = false;
      this.#pingSentAtMs = 0;
    } else if (this.#pingSentAtMs === 0) {
      this.#pingSentAtMs = nowMs;
      this.#engine.submitPing(PING_KEEPALIVE);
      this.#engineDirty = true;
      this.#wantFlush();
    } else if (nowMs - this.#pingSentAtMs >= limits.keepaliveTimeoutMs) {
      this.runtime.counters.pingTimeouts++;
      this.#fail(new AmbitError('PING_TIMEOUT', `no answer to PING for ${limits.keepaliveTimeoutMs} ms`), NO_ERROR);
      return;
    }
    this.#setTimer(limits.keepaliveIntervalMs, () => this.#onKeepalive());
  }

  #onPong(): void {
    this.#pingSentAtMs = 0;
    if (this.role === 'server' && this.#state === 'draining') this.#sendFinalGoaway();
  }

  #sendFinalGoaway(): void {
    if (this.#finalGoawaySent || this.#state !== 'draining') return;
    this.#finalGoawaySent = true;
    this.#engine.submitGoaway(NO_ERROR);
    this.#engineDirty = true;
    this.#wantFlush();
    this.#setTimer(this.limits.keepaliveIntervalMs, () => this.#onKeepalive());
  }

  #exceeds(limit: RatedLimit): boolean {
    return this.#check(this.#guard.onEvent(limit, this.runtime.loop.nowMs));
  }

  #check(exceeded: ExceededLimit | undefined): boolean {
    if (exceeded === undefined) return false;
    this.#flood(exceeded);
    return true;
  }

  #flood(limit: ExceededLimit): void {
    this.runtime.counters.floods++;
    this.#fail(new AmbitError('H2_FLOOD', `limit ${limit} exceeded`), ENHANCE_YOUR_CALM);
  }

  /** `code` undefined: the engine has queued its own GOAWAY; else we say it and the engine is not used again. */
  #fail(error: AmbitError, code: number | undefined): void {
    if (this.#state === 'closed' || this.#state === 'closing') return;
    if (this.#failure === undefined) {
      this.#failure = error;
      this.#failureCode = code;
    }
    if (this.#inEngine) return;
    const first = this.#failure;
    if (first.code === 'H2_PROTOCOL') this.runtime.counters.protocolErrors++;
    this.#setState('closing');
    this.#engineSpeaks = this.#failureCode === undefined;
    this.#goodbyeCode = this.#failureCode;
    this.#setTimer(this.limits.finalFlushMs, () => this.#finish());
    this.#wantFlush();
    for (const stream of this.#streams.toArray()) stream.handleSessionLost(first);
  }

  /** A failure noted inside the engine takes effect now. True when there was one. */
  #applyFailure(): boolean {
    const failure = this.#failure;
    if (failure === undefined || this.#state === 'closing' || this.#state === 'closed') return false;
    this.#fail(failure, this.#failureCode);
    return true;
  }

  /** Bytes that arrive after our GOAWAY are thrown away, up to a bound. True when the channel was closed. */
  #discard(length: number): boolean {
    this.#discardedBytes += length;
    if (this.#discardedBytes <= MAX_DISCARDED_BYTES) return false;
    this.#finish();
    return true;
  }

  /** The byte channel ended: 0 = end of file, negative = -errno. */
  #onChannelEnd(result: number): void {
    const streams = this.#streams.size;
    if (this.#failure === undefined && (result !== 0 || streams > 0)) {
      const reason = result === 0 ? 'the peer closed the connection' : 'the connection failed';
      this.#failure =
        (result === 0 ? undefined : this.#events.describeFailure?.(-result)) ??
        new AmbitError('STREAM_RESET', reason, result === 0 ? {} : { errno: -result });
    }
    this.#finish();
  }

  #finish(): void {
    if (this.#state === 'closed') return;
    this.#setState('closed');
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#refusedTimer?.cancel();
    this.#releaseSendArena();
    this.#channel.close();
    this.#engine.free();
    this.#walker.free();
    this.runtime.sessions.delete(this);
    this.runtime.counters.sessionsClosed++;
    const lost = this.#failure ?? new AmbitError('STREAM_RESET', 'the session was closed');
    for (const stream of this.#streams.toArray()) stream.handleSessionLost(lost);
    this.#events.onClosed(this.#failure);
  }

  #wakeEngine(): void {
    this.#engineDirty = true;
    this.#wantFlush();
  }

  #wantFlush(): void {
    if (this.#flushWanted || this.#state === 'closed') return;
    this.#flushWanted = true;
    this.runtime.loop.atTurnEnd(this);
  }

  #releaseSendArena(): void {
    if (this.#sendArena === undefined) return;
    this.runtime.giveSendArena(this.#sendArena);
    this.#sendArena = undefined;
    this.#sendStart = 0;
    this.#sendEnd = 0;
  }

  #setTimer(delayMs: number, handler: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.runtime.loop.setTimer(delayMs, handler);
  }

  #setState(state: SessionState): void {
    this.#state = state;
  }
}

/** A GOAWAY frame (RFC 9113 section 6.8) at the start of `bytes`; returns its length. */
function writeGoaway(bytes: Buffer, lastStreamId: number, errorCode: number): number {
  writeFrameHeader(bytes, 0, 8, FRAME_GOAWAY, 0, 0);
  writeUint32(bytes, FRAME_HEADER_BYTES, lastStreamId);
  writeUint32(bytes, FRAME_HEADER_BYTES + 4, errorCode);
  return FRAME_HEADER_BYTES + 8;
}

/** Resets the stream that holds most among these sessions; false when none holds anything. */
function resetLargestHolder(sessions: Iterable<Http2Session>, runtime: Http2Runtime): boolean {
  let largest: Http2Stream | undefined;
  for (const session of sessions) {
    const candidate = session.largestHolder();
    if (candidate !== undefined && candidate.heldMemoryBytes > (largest?.heldMemoryBytes ?? 0)) largest = candidate;
  }
  if (largest === undefined) return false;
  runtime.counters.budgetResets++;
  largest.reset(new AmbitError('BUFFER_BUDGET', 'the receiver of the stream does not take its bytes'));
  return true;
}
