/**
 * One HTTP/2 connection (RFC 9113), client or server, on any `ByteChannel`.
 *
 *   open ──drain / GOAWAY──> draining ──last stream──> closing ──flushed──> closed
 *     └───────failure─────────────────────────────────────^
 *
 * Here are the states, the streams and the end; the rest is done by parts that call back:
 *
 *   bytes -> SessionInput -> streams           SessionOutput -> bytes       at most one flush per turn of the loop
 *                     └-> engine -> EngineEvents     SessionClock, SessionDrain   keepalive, GOAWAY
 *
 * Whatever fails inside an engine callback takes effect after the engine has returned.
 */
import { AmbitError } from '../../core/errors.ts';
import { type ByteChannel, type ChannelOwner, READABLE } from '../byte-channel.ts';
import { type EngineRole, Nghttp2Session } from '../sys/nghttp2.ts';
import { EngineEvents } from './engine-events.ts';
import { EngineGate } from './engine-gate.ts';
import { ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, NO_ERROR, REFUSED_STREAM } from './error-codes.ts';
import { type ExceededLimit, FloodGuard, type RatedLimit } from './flood-guard.ts';
import { SETTING_INITIAL_WINDOW_SIZE, SETTING_MAX_CONCURRENT_STREAMS, SETTING_MAX_FRAME_SIZE } from './frames.ts';
import { type HeaderList, ReceivedHeaders } from './headers.ts';
import { HeldBudget } from './held-budget.ts';
import type { Http2Limits } from './limits.ts';
import { ReceiveLedger } from './receive-ledger.ts';
import { RefusedStreams } from './refused-streams.ts';
import type { Http2Runtime } from './runtime.ts';
import { SEND_DONE, SendScheduler } from './send-scheduler.ts';
import { SessionClock } from './session-clock.ts';
import { SessionDrain } from './session-drain.ts';
import type { Http2SessionEvents } from './session-events.ts';
import { SessionInput } from './session-input.ts';
import { SessionOutput } from './session-output.ts';
import { Http2Stream, type ResponseHandler } from './stream.ts';
import { StreamTable } from './stream-table.ts';

export type SessionState = 'open' | 'draining' | 'closing' | 'closed';

/** Near the end of the stream ids (RFC 9113 section 5.1.1) a session makes place for a new one. */
const LAST_CLIENT_STREAM_ID = 0x7fffff00;

export class Http2Session implements ChannelOwner {
  readonly runtime: Http2Runtime;
  readonly role: EngineRole;
  readonly limits: Http2Limits;
  readonly #channel: ByteChannel;
  readonly #events: Http2SessionEvents;
  readonly #engine: Nghttp2Session;
  readonly #streams = new StreamTable();
  readonly #guard: FloodGuard;
  readonly #ledger: ReceiveLedger;
  readonly #scheduler = new SendScheduler();
  readonly #engineEvents: EngineEvents;
  readonly #gate: EngineGate;
  readonly #input: SessionInput;
  readonly #output: SessionOutput;
  readonly #clock: SessionClock;
  readonly #drain: SessionDrain;
  readonly #refused: RefusedStreams;
  #state: SessionState = 'open';
  #failure: AmbitError | undefined;
  #failureCode: number | undefined;
  #peerMaxStreams: number;
  /** @internal What receivers of its streams leave lying. */
  readonly held: HeldBudget;
  /** @internal For our GOAWAY. */
  lastPeerStreamId = 0;

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
    this.#peerMaxStreams = limits.peerMaxStreamsUntilTold;
    const streams = this.#streams;
    const scheduler = this.#scheduler;
    const guard = new FloodGuard(limits);
    const ledger = new ReceiveLedger(limits.connectionWindowBytes);
    this.#guard = guard;
    this.#ledger = ledger;
    this.#engineEvents = new EngineEvents(this, streams, guard);
    const engine = new Nghttp2Session(role, this.#engineEvents, limits);
    this.#engine = engine;
    const gate = new EngineGate(this, engine);
    this.#gate = gate;
    const output = new SessionOutput(this, channel, { engine, gate, scheduler, ledger });
    this.#output = output;
    const clock = new SessionClock(this);
    this.#clock = clock;
    this.#input = new SessionInput(this, channel, { streams, scheduler, ledger, guard, gate, output, clock });
    this.#drain = new SessionDrain(this, { engine, output, clock });
    this.held = new HeldBudget(runtime, limits, streams);
    this.#refused = new RefusedStreams(runtime.loop, limits.refusedGraceMs);
    const server = role === 'server';
    engine.announce(
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
    this.#clock.watchPeer();
    this.#output.wantFlush();
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
    this.#output.wakeEngine();
    return stream;
  }

  /**
   * Asks the peer to open no more streams, then tells it (two GOAWAY frames for a server); the session closes when its last
   * stream ends. Idempotent.
   */
  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'draining';
    this.#drain.begin();
    this.#events.onDraining?.();
  }

  /** Ends the session and all its streams now; the peer is told with GOAWAY. Safe inside any callback. */
  close(error: AmbitError): void {
    this.fail(error, NO_ERROR);
  }

  // ChannelOwner

  onReadable(): void {
    this.#input.onReadable();
  }

  onWritable(): void {
    this.#output.onWritable();
  }

  onBroken(errno: number): void {
    this.onChannelEnd(-errno);
  }

  // Called by streams.

  /** @internal */
  submitResponse(stream: Http2Stream, headers: HeaderList, endStream: boolean): void {
    this.#engine.submitHeaders(stream.id, headers, endStream);
    if (endStream) stream.sendState = SEND_DONE;
    this.#output.wakeEngine();
  }

  /** @internal */
  submitReset(stream: Http2Stream, code: number): void {
    if (!this.usable) return;
    this.#engine.submitReset(stream.id, code);
    this.#output.wakeEngine();
  }

  /** @internal Ends a refused stream after a moment (a reset at once would overtake its answer). */
  resetLater(stream: Http2Stream): void {
    this.#refused.resetLater(stream);
  }

  /** @internal */
  resumeStream(stream: Http2Stream): void {
    if (!this.usable) return;
    this.#scheduler.enqueue(stream);
    this.#output.wantFlush();
  }

  /** @internal */
  creditStream(stream: Http2Stream, byteLength: number): void {
    if (!this.usable) return;
    if (stream.engineReceives) {
      this.#engine.creditStream(stream.id, byteLength);
      this.#output.wakeEngine();
      return;
    }
    this.#ledger.update(stream.id, byteLength);
    this.#output.wantFlush();
  }

  /** @internal */
  forgetStream(stream: Http2Stream): void {
    this.#streams.remove(stream);
    if (!this.usable) return;
    this.#events.onStreamEnded?.();
    if (this.#streams.size === 0 && this.#state === 'draining') this.#output.wantFlush();
  }

  // Called by the parts of the session.

  /** @internal False once the session has failed or ended: the engine and the streams are left alone. */
  get usable(): boolean {
    return this.#state === 'open' || this.#state === 'draining';
  }

  /** @internal */
  ping(payload: Buffer): void {
    this.#engine.submitPing(payload);
    this.#output.wakeEngine();
  }

  /** @internal Credit for DATA that went through the engine; `streamId` when it belongs to no stream of ours any more. */
  creditEngine(byteLength: number, streamId: number | undefined): void {
    this.#engine.creditConnection(byteLength);
    if (streamId !== undefined) this.#engine.creditStream(streamId, byteLength);
  }

  /** @internal A peer's request has a complete header section. */
  openRequest(streamId: number, headers: ReceivedHeaders, endStream: boolean): void {
    if (this.#failure !== undefined) return;
    this.lastPeerStreamId = streamId;
    const stream = this.#addStream(streamId, headers, undefined);
    stream.engineReceives = headers.find('content-length') !== undefined;
    if (this.#events.onRequest === undefined) stream.resetWithCode(REFUSED_STREAM, undefined);
    else this.#events.onRequest(stream, headers, endStream);
  }

  /** @internal */
  onPeerSettings(): void {
    const engine = this.#engine;
    this.#peerMaxStreams = engine.peerSetting(SETTING_MAX_CONCURRENT_STREAMS);
    const fine = this.#scheduler.applySettings(
      engine.peerSetting(SETTING_INITIAL_WINDOW_SIZE),
      engine.peerSetting(SETTING_MAX_FRAME_SIZE),
      this.#streams.toArray(),
    );
    if (!fine) this.fail(new AmbitError('H2_PROTOCOL', 'a window overflows'), FLOW_CONTROL_ERROR);
    else this.#events.onSettings?.();
  }

  /** @internal */
  onPeerGoaway(): void {
    this.#drain.onPeerGoaway();
    if (this.#state === 'open') {
      this.#state = 'draining';
      this.#events.onDraining?.();
    }
    this.#output.wantFlush();
  }

  /** @internal */
  onPong(): void {
    this.#clock.pong();
    this.#drain.onPong();
  }

  /** @internal Everything is on its way: ends a session that has nothing left to do. */
  onFlushed(): void {
    const idle = this.#state === 'draining' && this.#streams.size === 0;
    if (idle && this.#drain.agreed) this.finish();
    else if (this.#engine.goawaySent && !this.#engine.wantsRead) this.#onEngineGaveUp();
  }

  /** @internal The byte channel ended: 0 = end of file, negative = -errno. */
  onChannelEnd(result: number): void {
    const streams = this.#streams.size;
    if (this.#failure === undefined && (result !== 0 || streams > 0)) {
      const reason = result === 0 ? 'the peer closed the connection' : 'the connection failed';
      this.#failure =
        (result === 0 ? undefined : this.#events.describeFailure?.(-result)) ??
        new AmbitError('STREAM_RESET', reason, result === 0 ? {} : { errno: -result });
    }
    this.finish();
  }

  /** @internal Counts an event of this kind. True when it was one too many: the session fails. */
  exceeds(limit: RatedLimit): boolean {
    const exceeded = this.#guard.onEvent(limit, this.runtime.loop.nowMs);
    if (exceeded === undefined) return false;
    this.flood(exceeded);
    return true;
  }

  /** @internal */
  flood(limit: ExceededLimit): void {
    this.runtime.counters.floods++;
    this.fail(new AmbitError('H2_FLOOD', `limit ${limit} exceeded`), ENHANCE_YOUR_CALM);
  }

  /**
   * @internal Ends the session, now or when the engine has returned; the first failure counts. `code` undefined: the engine has
   * queued its own GOAWAY; else we say it and the engine is not used again.
   */
  fail(error: AmbitError, code: number | undefined): void {
    if (!this.usable) return;
    if (this.#failure === undefined) {
      this.#failure = error;
      this.#failureCode = code;
    }
    if (this.#gate.inside) return;
    const first = this.#failure;
    if (first.code === 'H2_PROTOCOL') this.runtime.counters.protocolErrors++;
    this.#state = 'closing';
    this.#output.sayGoodbye(this.#failureCode);
    this.#clock.after(this.limits.finalFlushMs, () => this.finish());
    for (const stream of this.#streams.toArray()) stream.handleSessionLost(first);
  }

  /** @internal A failure noted inside the engine takes effect now. True when there was one. */
  applyFailure(): boolean {
    const failure = this.#failure;
    if (failure === undefined || !this.usable) return false;
    this.fail(failure, this.#failureCode);
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

  /** The engine ended the session by itself; its GOAWAY is sent. */
  #onEngineGaveUp(): void {
    const { lastInvalid } = this.#engineEvents;
    this.fail(
      new AmbitError('H2_PROTOCOL', lastInvalid === '' ? 'the peer broke the protocol' : lastInvalid),
      undefined,
    );
  }

  /** @internal Ends it at once. Idempotent. */
  finish(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#clock.stop();
    this.#refused.close();
    this.#output.release();
    this.#channel.close();
    this.#engine.free();
    this.#input.free();
    this.runtime.sessions.delete(this);
    this.runtime.counters.sessionsClosed++;
    const lost = this.#failure ?? new AmbitError('STREAM_RESET', 'the session was closed');
    for (const stream of this.#streams.toArray()) stream.handleSessionLost(lost);
    this.#events.onClosed(this.#failure);
  }
}
