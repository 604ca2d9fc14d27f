/**
 * The sending half of a session: at most one flush per turn of the loop, into an arena that is borrowed only while there is
 * something to send. An arena holds, in this order, window updates, control and header frames of the engine, and bodies.
 */
import type { Arena } from '../arena.ts';
import { type ByteChannel, READABLE, WOULD_BLOCK, WRITABLE } from '../byte-channel.ts';
import type { TurnTask } from '../loop.ts';
import type { Nghttp2Session } from '../sys/nghttp2.ts';
import type { EngineGate } from './engine-gate.ts';
import { FRAME_GOAWAY, FRAME_HEADER_BYTES, writeFrameHeader, writeUint32, writeWindowUpdate } from './frames.ts';
import type { ReceiveLedger } from './receive-ledger.ts';
import { SEND_ARENA_BYTES } from './runtime.ts';
import type { SendScheduler } from './send-scheduler.ts';
import type { Http2Session } from './session.ts';
import type { Http2Stream } from './stream.ts';

/** Bytes written per event before other sockets of the loop get their turn. */
const BYTES_PER_TURN = 1 << 20;

export class SessionOutput implements TurnTask {
  readonly #session: Http2Session;
  readonly #channel: ByteChannel;
  readonly #engine: Nghttp2Session;
  readonly #gate: EngineGate;
  readonly #scheduler: SendScheduler;
  readonly #ledger: ReceiveLedger;
  #flushWanted = false;
  #arena: Arena | undefined;
  #start = 0;
  #end = 0;
  #writeBlocked = false;
  /** Our direction has ended: the peer is read a little longer, so that it can read our last word before a reset. */
  #ended = false;
  /** The engine may have something to say. */
  #engineDirty = true;
  /** False: the engine is not used any more, and `#goodbye` (a GOAWAY code) is all that is left to say. */
  #engineSpeaks = true;
  #goodbye: number | undefined;

  constructor(
    session: Http2Session,
    channel: ByteChannel,
    parts: {
      readonly engine: Nghttp2Session;
      readonly gate: EngineGate;
      readonly scheduler: SendScheduler;
      readonly ledger: ReceiveLedger;
    },
  ) {
    this.#session = session;
    this.#channel = channel;
    this.#engine = parts.engine;
    this.#gate = parts.gate;
    this.#scheduler = parts.scheduler;
    this.#ledger = parts.ledger;
  }

  /** There may be something to send at the end of this turn. */
  wantFlush(): void {
    if (this.#flushWanted || this.#session.state === 'closed') return;
    this.#flushWanted = true;
    this.#session.runtime.loop.atTurnEnd(this);
  }

  /** The engine was given something to say, or has been fed and may want to answer. */
  wakeEngine(): void {
    this.#engineDirty = true;
    this.wantFlush();
  }

  /** From now on only a GOAWAY with this code is said; undefined = what the engine has queued, its own GOAWAY included. */
  sayGoodbye(code: number | undefined): void {
    this.#engineSpeaks = code === undefined;
    this.#goodbye = code;
    this.wantFlush();
  }

  onWritable(): void {
    this.#writeBlocked = false;
    this.runAtTurnEnd();
  }

  runAtTurnEnd(): void {
    this.#flushWanted = false;
    if (this.#session.state === 'closed' || this.#writeBlocked || this.#ended) return;
    let budget = BYTES_PER_TURN;
    for (;;) {
      if (!this.#writePending()) return;
      if (budget <= 0) break;
      const produced = this.#produce();
      if (produced < 0) return;
      if (produced === 0) {
        this.#onFlushed();
        return;
      }
      budget -= produced;
    }
    // Enough for one turn: go on when the channel says it is writable, after the others.
    this.#channel.setInterest(READABLE | WRITABLE);
  }

  /** Gives the arena back; what it holds is lost. */
  release(): void {
    if (this.#arena === undefined) return;
    this.#session.runtime.giveSendArena(this.#arena);
    this.#arena = undefined;
    this.#start = 0;
    this.#end = 0;
  }

  /** Everything is on its way. */
  #onFlushed(): void {
    this.release();
    this.#channel.setInterest(READABLE);
    if (this.#session.state === 'closing') {
      this.#channel.shutdownWrite();
      this.#ended = true;
    } else this.#session.onFlushed();
  }

  /** Serialises into the arena, whose old content is written. Bytes produced, or -1 when the session failed meanwhile. */
  #produce(): number {
    this.#start = 0;
    this.#end = 0;
    const { runtime } = this.#session;
    if (!this.#engineSpeaks) {
      if (this.#goodbye === undefined) return 0;
      this.#arena ??= runtime.takeSendArena();
      this.#end = writeGoaway(this.#arena.bytes, this.#session.lastPeerStreamId, this.#goodbye);
      this.#goodbye = undefined;
      return this.#end;
    }
    if (!this.#engineDirty && !this.#scheduler.canSend && !this.#ledger.hasUpdates) return 0;
    this.#arena ??= runtime.takeSendArena();
    const arena = this.#arena;
    let position = this.#ledger.write(arena, 0, SEND_ARENA_BYTES);
    do {
      position = this.#serialiseEngine(arena, position);
      if (position < 0) return -1;
      // Header frames come before the bodies they open.
      if (this.#engine.sendIncomplete || !this.#session.usable) break;
      position = this.#scheduler.fill(arena, position, SEND_ARENA_BYTES);
      if (!this.#session.usable) break;
      if (this.#scheduler.ended !== undefined) this.#endBody(this.#scheduler.ended, arena, position);
    } while (this.#engineDirty);
    this.#end = position;
    return position;
  }

  /** Control and header frames of the engine. Returns the new position, or -1 when the session failed. */
  #serialiseEngine(arena: Arena, position: number): number {
    if (!this.#engineDirty) return position;
    this.#engineDirty = false;
    const produced = this.#gate.serialise(arena, position, SEND_ARENA_BYTES - position);
    if (produced < 0) return -1;
    if (this.#engine.sendIncomplete) this.#engineDirty = true;
    this.#end = position + produced;
    return this.#session.applyFailure() ? -1 : this.#end;
  }

  /** Our body of this stream is complete: the engine says END_STREAM, with the trailers if there are any. */
  #endBody(stream: Http2Stream, arena: Arena, position: number): void {
    const trailers = stream.takeTrailers();
    if (trailers !== undefined) this.#engine.submitHeaders(stream.id, trailers, true);
    else {
      // The engine holds even an empty DATA frame while it believes the window is closed; our windows are not its own.
      if (this.#scheduler.initialWindow <= 0) {
        writeWindowUpdate(arena.bytes, position, stream.id, 1);
        if (!this.#gate.feed(arena, position, FRAME_HEADER_BYTES + 4)) return;
        this.wantFlush();
      }
      this.#engine.submitEnd(stream.id);
    }
    this.#engineDirty = true;
  }

  /** Writes what lies in the arena; false when the channel is blocked or gone. */
  #writePending(): boolean {
    const arena = this.#arena;
    if (arena === undefined) return true;
    while (this.#start < this.#end) {
      const written = this.#channel.write(arena, this.#start, this.#end - this.#start);
      if (written > 0) {
        this.#start += written;
        continue;
      }
      if (written === WOULD_BLOCK || written === 0) {
        this.#writeBlocked = true;
        this.#channel.setInterest(READABLE | WRITABLE);
      } else this.#session.onChannelEnd(written);
      return false;
    }
    return true;
  }
}

/** A GOAWAY frame (RFC 9113 section 6.8) at the start of `bytes`; returns its length. */
function writeGoaway(bytes: Buffer, lastStreamId: number, errorCode: number): number {
  writeFrameHeader(bytes, 0, 8, FRAME_GOAWAY, 0, 0);
  writeUint32(bytes, FRAME_HEADER_BYTES, lastStreamId);
  writeUint32(bytes, FRAME_HEADER_BYTES + 4, errorCode);
  return FRAME_HEADER_BYTES + 8;
}
