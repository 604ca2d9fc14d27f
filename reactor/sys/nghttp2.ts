/**
 * One HTTP/2 session of the nghttp2 inside Node, without pointers in its interface: bytes are named by arena, offset and
 * length; events go to an `EngineHandler`.
 *
 * Invariants: callbacks happen only inside `receive` and `send`. `free` inside a callback takes effect when the outermost
 * of these returns (the engine must not be deleted under its own feet). An exception in a handler never crosses C: it is
 * kept, the engine is told to fail, and `receive`/`send` throw it afterwards.
 */
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import { WOULD_BLOCK } from '../byte-channel.ts';
import type { HeaderList } from '../http2/headers.ts';
import type { EngineLimits } from '../http2/limits.ts';
import { allocateBlock } from './memory.ts';
import { encodeHeaderPairs } from './nghttp2-headers.ts';
import {
  ERR_CALLBACK_FAILURE,
  ERR_DEFERRED,
  ERR_PAUSE,
  ERR_TEMPORAL_CALLBACK_FAILURE,
  nghttp2,
  registerCallback,
  textAt,
} from './nghttp2-library.ts';

export type EngineRole = 'client' | 'server';

/** Frame types and flags of RFC 9113 section 6. */
export const FRAME_DATA = 0;
export const FRAME_HEADERS = 1;
export const FRAME_PRIORITY = 2;
export const FRAME_RST_STREAM = 3;
export const FRAME_SETTINGS = 4;
export const FRAME_PING = 6;
export const FRAME_GOAWAY = 7;
export const FRAME_WINDOW_UPDATE = 8;
export const FRAME_CONTINUATION = 9;
export const FLAG_END_STREAM = 1;
export const FLAG_ACK = 1;

/** Which header section a HEADERS frame began (nghttp2_headers_category). */
export const CATEGORY_REQUEST = 0;
export const CATEGORY_RESPONSE = 1;
/** Trailers, or the final response after an informational one. */
export const CATEGORY_HEADERS = 3;

/** Verdicts of `onHeader`: go on; reset this stream and skip the rest of its header section; end the session. */
export const HEADER_OK = 0;
export const HEADER_REFUSE_STREAM = 1;
export const HEADER_FAIL_SESSION = 2;

/** Result of `onFill`: the body ends here, trailers are being submitted. */
export const FILL_END_WITH_TRAILERS = -100_000;

/** `send` needs this much room: the largest frame the engine serialises itself (16 KiB payload, header, padding). */
export const SEND_ROOM_BYTES = 16 * 1024 + 64;
/** Room below which a DATA frame waits for the next arena. */
const MIN_DATA_ROOM_BYTES = 2048;
const FRAME_HEADER_BYTES = 9;

export interface EngineHandler {
  onHeader(streamId: number, category: number, name: string, value: string): number;
  /** A header section is complete. */
  onHeaders(streamId: number, category: number, endStream: boolean): void;
  /** DATA payload, lying at `offset` of the arena given to `receive`. */
  onData(streamId: number, offset: number, length: number): void;
  onEndStream(streamId: number): void;
  /** Every other frame, and DATA without payload and END_STREAM. `value`: error code (RST_STREAM, GOAWAY), increment (WINDOW_UPDATE); `lastStreamId` for GOAWAY. */
  onControl(type: number, flags: number, streamId: number, value: number, lastStreamId: number): void;
  /** The engine answers this frame with a stream or session error of its own. */
  onInvalidFrame(type: number, streamId: number, engineError: number): void;
  onStreamClosed(streamId: number, errorCode: number): void;
  /** Put body bytes into the send arena: bytes, 0 = end of stream, WOULD_BLOCK, FILL_END_WITH_TRAILERS, other negative = reset. */
  onFill(streamId: number, arena: Arena, offset: number, maxLength: number): number;
}

export interface EngineSettings {
  readonly initialWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly maxFrameBytes: number;
  readonly maxHeaderListBytes: number;
  /** Server only; absent = not announced. */
  readonly maxConcurrentStreams?: number;
}

const keptAlive: unknown[] = [];
const out = allocateBlock(8);
/** Copy of the nghttp2_frame union (64 bytes): length 0, stream id 8, type 12, flags 13, then per type from 16. */
const frame = allocateBlock(64);
const frameView = new DataView(frame.bytes.buffer);
const DATA_FLAGS_NO_COPY = flagConstant(4);
const DATA_FLAGS_END = flagConstant(4 | 1);
const DATA_FLAGS_END_WITHOUT_FLAG = flagConstant(4 | 1 | 2);

function flagConstant(value: number): number {
  const block = allocateBlock(4);
  block.bytes.writeUInt32LE(value, 0);
  keptAlive.push(block);
  return block.address;
}

function takePointer(): number {
  return out.bytes.readUInt32LE(0) + out.bytes.readUInt32LE(4) * 0x1_0000_0000;
}

/** The session whose `receive` or `send` runs now. */
let current: Nghttp2Session | undefined;

export class Nghttp2Session {
  readonly #handler: EngineHandler;
  #session: number;
  #depth = 0;
  #freeWanted = false;
  #thrown: AmbitError | undefined;
  // The bytes being received.
  #receiveBase = 0;
  // The arena being filled.
  #sendArena: Arena | undefined;
  #sendPosition = 0;
  #sendEnd = 0;
  #lastFillEnds = false;
  /** True when the last `send` stopped for lack of room. */
  sendBlocked = false;

  constructor(role: EngineRole, handler: EngineHandler, limits: EngineLimits) {
    this.#handler = handler;
    const create = role === 'client' ? nghttp2.clientNew : nghttp2.serverNew;
    const status = create(out.bytes, callbacks(), 0, optionFor(limits));
    if (status !== 0) throw new AmbitError('SYSTEM_CALL', `nghttp2 session: ${status}`);
    this.#session = takePointer();
  }

  get freed(): boolean {
    return this.#session === 0;
  }

  /** Feeds received bytes; throws H2_PROTOCOL (or what a handler threw) when the session is beyond repair. */
  receive(arena: Arena, offset: number, length: number): void {
    const address = arena.addressOf(offset, length);
    const previous = this.#enter();
    this.#receiveBase = address - offset;
    const taken = nghttp2.receive(this.#live(), address, length);
    this.#leave(previous);
    if (taken !== length) throw engineError('receive', taken);
  }

  /**
   * Serialises frames into the arena; returns the bytes put there. Stops when nothing is left to send or when less than
   * SEND_ROOM_BYTES of room remain (then `sendBlocked`).
   */
  send(arena: Arena, offset: number, length: number): number {
    const base = arena.addressOf(offset, length) - offset;
    const session = this.#live();
    const previous = this.#enter();
    this.#sendArena = arena;
    this.#sendPosition = offset;
    this.#sendEnd = offset + length;
    this.sendBlocked = false;
    let produced = 0;
    for (;;) {
      if (this.#sendEnd - this.#sendPosition < SEND_ROOM_BYTES) {
        this.sendBlocked = true;
        break;
      }
      produced = nghttp2.send(session, out.bytes);
      if (produced <= 0) break;
      nghttp2.memcpy(base + this.#sendPosition, takePointer(), produced);
      this.#sendPosition += produced;
    }
    this.#sendArena = undefined;
    this.#leave(previous);
    if (produced < 0) throw engineError('send', produced);
    return this.#sendPosition - offset;
  }

  /** True while the engine expects or has to say something; false = the connection can be closed. */
  get wantsIo(): boolean {
    const session = this.#live();
    return nghttp2.wantRead(session) !== 0 || nghttp2.wantWrite(session) !== 0;
  }

  get wantsRead(): boolean {
    return nghttp2.wantRead(this.#live()) !== 0;
  }

  announce(settings: EngineSettings, role: EngineRole): void {
    const entries: [number, number][] = [
      [4, settings.initialWindowBytes],
      [5, settings.maxFrameBytes],
      [6, settings.maxHeaderListBytes],
    ];
    if (role === 'client') entries.push([2, 0]);
    if (settings.maxConcurrentStreams !== undefined) entries.push([3, settings.maxConcurrentStreams]);
    const block = allocateBlock(entries.length * 8);
    entries.forEach(([id, value], index) => {
      block.bytes.writeInt32LE(id, index * 8);
      block.bytes.writeUInt32LE(value, index * 8 + 4);
    });
    check('settings', nghttp2.submitSettings(this.#live(), 0, block.bytes, entries.length));
    check('window', nghttp2.setLocalWindow(this.#live(), 0, 0, settings.connectionWindowBytes));
  }

  /** Returns the new stream's id; throws STREAM_REFUSED when no id is left. */
  submitRequest(headers: HeaderList, hasBody: boolean): number {
    const id = nghttp2.submitRequest(
      this.#live(),
      null,
      encodeHeaderPairs(headers),
      headers.length,
      hasBody ? provider() : null,
      0,
    );
    if (id < 0) throw new AmbitError('STREAM_REFUSED', `the session takes no more streams (${id})`);
    return id;
  }

  submitResponse(streamId: number, headers: HeaderList, hasBody: boolean): void {
    const session = this.#live();
    const address = encodeHeaderPairs(headers);
    check('response', nghttp2.submitResponse(session, streamId, address, headers.length, hasBody ? provider() : null));
  }

  /** A 1xx response. */
  submitInformational(streamId: number, headers: HeaderList): void {
    const session = this.#live();
    const address = encodeHeaderPairs(headers);
    check('headers', nghttp2.submitHeaders(session, 0, streamId, null, address, headers.length, 0));
  }

  submitTrailers(streamId: number, headers: HeaderList): void {
    const session = this.#live();
    const address = encodeHeaderPairs(headers);
    check('trailers', nghttp2.submitTrailer(session, streamId, address, headers.length));
  }

  /** Idempotent for streams that are gone. */
  submitReset(streamId: number, errorCode: number): void {
    check('reset', nghttp2.submitReset(this.#live(), 0, streamId, errorCode));
  }

  /** `opaque`: 8 bytes. */
  submitPing(opaque: Uint8Array): void {
    if (opaque.length !== 8) throw new AmbitError('USAGE', 'PING data is 8 bytes');
    check('ping', nghttp2.submitPing(this.#live(), 0, opaque));
  }

  /** GOAWAY with the highest possible stream id: "open no more" (RFC 9113 section 6.8). Server only. */
  submitShutdownNotice(): void {
    check('notice', nghttp2.submitShutdownNotice(this.#live()));
  }

  /** GOAWAY with the id of the last stream that was processed. */
  submitGoaway(errorCode: number): void {
    const session = this.#live();
    const last = nghttp2.lastProcessedStream(session);
    check('goaway', nghttp2.submitGoaway(session, 0, last, errorCode, null, 0));
  }

  /** GOAWAY, and nothing is received any more. */
  terminate(errorCode: number): void {
    check('terminate', nghttp2.terminate(this.#live(), errorCode));
  }

  /** `onFill` of this stream may succeed again. */
  resumeData(streamId: number): void {
    nghttp2.resumeData(this.#live(), streamId);
  }

  creditConnection(byteLength: number): void {
    check('credit', nghttp2.consumeConnection(this.#live(), byteLength));
  }

  creditStream(streamId: number, byteLength: number): void {
    check('credit', nghttp2.consumeStream(this.#live(), streamId, byteLength));
  }

  /** SETTINGS_MAX_CONCURRENT_STREAMS of the peer; the configured assumption until it has told. */
  get peerMaxConcurrentStreams(): number {
    return nghttp2.remoteSetting(this.#live(), 3);
  }

  /** Frees the engine; inside a callback when the outermost call returns. Idempotent. */
  free(): void {
    if (this.#depth > 0) this.#freeWanted = true;
    else this.#delete();
  }

  #delete(): void {
    if (this.#session === 0) return;
    const session = this.#session;
    this.#session = 0;
    nghttp2.del(session);
  }

  #live(): number {
    if (this.#session === 0) throw new AmbitError('CLOSED', 'HTTP/2 session used after it was freed');
    return this.#session;
  }

  #enter(): Nghttp2Session | undefined {
    this.#live();
    if (this.#depth > 0) throw new AmbitError('USAGE', 'HTTP/2 engine entered from its own callback');
    const previous = current;
    current = this;
    this.#depth = 1;
    return previous;
  }

  #leave(previous: Nghttp2Session | undefined): void {
    current = previous;
    this.#depth = 0;
    if (this.#freeWanted) this.#delete();
    const thrown = this.#thrown;
    if (thrown !== undefined) {
      this.#thrown = undefined;
      throw thrown;
    }
  }

  // Below: what the C callbacks do.

  /** @internal */
  keep(thrown: unknown): number {
    this.#thrown ??= toAmbitError(thrown, 'USAGE');
    return ERR_CALLBACK_FAILURE;
  }

  /** @internal */
  handleHeader(frameAddress: number, name: number, nameLength: number, value: number, valueLength: number): number {
    nghttp2.memcpy(frame.address, frameAddress, 64);
    const verdict = this.#handler.onHeader(
      frameView.getInt32(8, true),
      frameView.getUint32(56, true),
      textAt(name, nameLength),
      textAt(value, valueLength),
    );
    if (verdict === HEADER_OK) return 0;
    return verdict === HEADER_REFUSE_STREAM ? ERR_TEMPORAL_CALLBACK_FAILURE : ERR_CALLBACK_FAILURE;
  }

  /** @internal */
  handleFrame(frameAddress: number): number {
    nghttp2.memcpy(frame.address, frameAddress, 64);
    const streamId = frameView.getInt32(8, true);
    const type = frameView.getUint8(12);
    const flags = frameView.getUint8(13);
    if (type === FRAME_DATA) {
      if ((flags & FLAG_END_STREAM) !== 0) this.#handler.onEndStream(streamId);
      else if (frameView.getUint32(0, true) === 0) this.#handler.onControl(type, flags, streamId, 0, 0);
    } else if (type === FRAME_HEADERS) {
      const endStream = (flags & FLAG_END_STREAM) !== 0;
      this.#handler.onHeaders(streamId, frameView.getUint32(56, true), endStream);
      if (endStream) this.#handler.onEndStream(streamId);
    } else if (type === FRAME_GOAWAY) {
      this.#handler.onControl(type, flags, streamId, frameView.getUint32(20, true), frameView.getInt32(16, true));
    } else {
      this.#handler.onControl(type, flags, streamId, frameView.getUint32(16, true), 0);
    }
    return 0;
  }

  /** @internal */
  handleInvalidFrame(frameAddress: number, engineCode: number): number {
    nghttp2.memcpy(frame.address, frameAddress, 16);
    this.#handler.onInvalidFrame(frameView.getUint8(12), frameView.getInt32(8, true), engineCode);
    return 0;
  }

  /** @internal */
  handleData(streamId: number, address: number, length: number): number {
    this.#handler.onData(streamId, address - this.#receiveBase, length);
    return 0;
  }

  /** @internal */
  handleStreamClosed(streamId: number, errorCode: number): number {
    this.#handler.onStreamClosed(streamId, errorCode);
    return 0;
  }

  /** @internal */
  handleRead(streamId: number, length: number, flagsAddress: number): number {
    const arena = this.#sendArena;
    const room = this.#sendEnd - this.#sendPosition - FRAME_HEADER_BYTES;
    if (arena === undefined || room < MIN_DATA_ROOM_BYTES) {
      this.sendBlocked = true;
      return ERR_PAUSE;
    }
    const offset = this.#sendPosition + FRAME_HEADER_BYTES;
    const filled = this.#handler.onFill(streamId, arena, offset, Math.min(length, room));
    if (filled > 0) {
      this.#lastFillEnds = false;
      nghttp2.memcpy(flagsAddress, DATA_FLAGS_NO_COPY, 4);
      return filled;
    }
    if (filled === 0) {
      this.#lastFillEnds = true;
      nghttp2.memcpy(flagsAddress, DATA_FLAGS_END, 4);
      return 0;
    }
    if (filled === WOULD_BLOCK) return ERR_DEFERRED;
    if (filled === FILL_END_WITH_TRAILERS) {
      this.#lastFillEnds = false;
      nghttp2.memcpy(flagsAddress, DATA_FLAGS_END_WITHOUT_FLAG, 4);
      return 0;
    }
    return ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  /** @internal Puts the frame header before the payload that `handleRead` has placed. */
  handleSendData(streamId: number, length: number): number {
    const arena = this.#sendArena;
    if (arena === undefined) return ERR_CALLBACK_FAILURE;
    writeFrameHeader(arena.bytes, this.#sendPosition, length, this.#lastFillEnds ? FLAG_END_STREAM : 0, streamId);
    this.#sendPosition += FRAME_HEADER_BYTES + length;
    return 0;
  }
}

/** DATA frame header (RFC 9113 section 4.1). */
function writeFrameHeader(bytes: Buffer, at: number, length: number, flags: number, streamId: number): void {
  bytes[at] = length >>> 16;
  bytes[at + 1] = (length >>> 8) & 0xff;
  bytes[at + 2] = length & 0xff;
  bytes[at + 3] = FRAME_DATA;
  bytes[at + 4] = flags;
  bytes[at + 5] = (streamId >>> 24) & 0x7f;
  bytes[at + 6] = (streamId >>> 16) & 0xff;
  bytes[at + 7] = (streamId >>> 8) & 0xff;
  bytes[at + 8] = streamId & 0xff;
}

function check(what: string, status: number): void {
  if (status < 0) throw engineError(what, status);
}

function engineError(what: string, code: number): AmbitError {
  return new AmbitError('H2_PROTOCOL', `HTTP/2 ${what}: engine error ${code}`);
}

let callbackTable = 0;
let dataProvider: Buffer | undefined;

function provider(): Uint8Array | null {
  callbacks();
  return dataProvider ?? null;
}

/** One callback table per thread; made on first use, lives as long as the thread. */
function callbacks(): number {
  if (callbackTable !== 0) return callbackTable;
  check('callbacks', nghttp2.callbacksNew(out.bytes));
  const table = takePointer();
  nghttp2.setOnHeader(
    table,
    registerCallback((_session = 0, frameAddress = 0, name = 0, nameLength = 0, value = 0, valueLength = 0) => {
      try {
        return current?.handleHeader(frameAddress, name, nameLength, value, valueLength) ?? ERR_CALLBACK_FAILURE;
      } catch (thrown) {
        return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
      }
    }, 'AmbitH2Header'),
  );
  nghttp2.setOnFrame(
    table,
    registerCallback((_session = 0, frameAddress = 0) => {
      try {
        return current?.handleFrame(frameAddress) ?? ERR_CALLBACK_FAILURE;
      } catch (thrown) {
        return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
      }
    }, 'AmbitH2Frame'),
  );
  nghttp2.setOnInvalidFrame(
    table,
    registerCallback((_session = 0, frameAddress = 0, code = 0) => {
      try {
        return current?.handleInvalidFrame(frameAddress, code) ?? ERR_CALLBACK_FAILURE;
      } catch (thrown) {
        return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
      }
    }, 'AmbitH2Invalid'),
  );
  nghttp2.setOnData(
    table,
    registerCallback((_session = 0, _flags = 0, streamId = 0, address = 0, length = 0) => {
      try {
        return current?.handleData(streamId, address, length) ?? ERR_CALLBACK_FAILURE;
      } catch (thrown) {
        return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
      }
    }, 'AmbitH2Data'),
  );
  nghttp2.setOnStreamClose(
    table,
    registerCallback((_session = 0, streamId = 0, code = 0) => {
      try {
        return current?.handleStreamClosed(streamId, code) ?? ERR_CALLBACK_FAILURE;
      } catch (thrown) {
        return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
      }
    }, 'AmbitH2Close'),
  );
  nghttp2.setSendData(
    table,
    registerCallback((_session = 0, frameAddress = 0, _header = 0, length = 0) => {
      try {
        nghttp2.memcpy(frame.address, frameAddress, 16);
        return current?.handleSendData(frameView.getInt32(8, true), length) ?? ERR_CALLBACK_FAILURE;
      } catch (thrown) {
        return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
      }
    }, 'AmbitH2Send'),
  );
  const read = registerCallback((_session = 0, streamId = 0, _buffer = 0, length = 0, flagsAddress = 0) => {
    try {
      return current?.handleRead(streamId, length, flagsAddress) ?? ERR_CALLBACK_FAILURE;
    } catch (thrown) {
      return current?.keep(thrown) ?? ERR_CALLBACK_FAILURE;
    }
  }, 'AmbitH2Read');
  dataProvider = allocateBlock(16).bytes;
  dataProvider.writeBigUInt64LE(read, 8);
  callbackTable = table;
  return table;
}

const options = new WeakMap<EngineLimits, number>();

/** One option object per limits object; kept for the life of the thread (limits are constants). */
function optionFor(limits: EngineLimits): number {
  const known = options.get(limits);
  if (known !== undefined) return known;
  check('option', nghttp2.optionNew(out.bytes));
  const option = takePointer();
  nghttp2.optionNoAutoWindowUpdate(option, 1);
  nghttp2.optionPeerMaxStreams(option, limits.peerMaxStreamsUntilTold);
  nghttp2.optionMaxContinuations(option, limits.maxContinuationFrames);
  nghttp2.optionMaxSettings(option, limits.maxSettingsEntries);
  nghttp2.optionMaxOutboundAck(option, limits.maxOutstandingAcks);
  nghttp2.optionStreamResetRate(option, limits.resets.burst, limits.resets.perSecond);
  options.set(limits, option);
  return option;
}
