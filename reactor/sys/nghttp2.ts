/**
 * One HTTP/2 session of the nghttp2 inside Node, without pointers in its interface: bytes are named by arena, offset and
 * length; events go to an `EngineHandler`. The engine does header compression, stream states and control frames; the session
 * above it moves DATA payload itself (docs/decisions/0020) and tells the engine where a body ends.
 *
 * Invariants: callbacks happen only inside `receive` and `send`. `free` inside a callback takes effect when the outermost
 * of these returns (the engine must not be deleted under its own feet). An exception in a handler never crosses C: it is
 * kept, the engine is told to fail, and `receive`/`send` throw it afterwards.
 */
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import { FLAG_END_STREAM, FRAME_DATA, FRAME_GOAWAY, FRAME_HEADERS } from '../http2/frames.ts';
import type { HeaderList } from '../http2/headers.ts';
import type { EngineLimits } from '../http2/limits.ts';
import { allocateBlock } from './memory.ts';
import { encodeHeaderPairs } from './nghttp2-headers.ts';
import {
  ERR_CALLBACK_FAILURE,
  ERR_TEMPORAL_CALLBACK_FAILURE,
  nghttp2,
  registerCallback,
  textAt,
} from './nghttp2-library.ts';

export type EngineRole = 'client' | 'server';

/** Which header section a HEADERS frame began (nghttp2_headers_category). */
export const CATEGORY_REQUEST = 0;
export const CATEGORY_RESPONSE = 1;
/** Trailers, or the final response after an informational one. */
export const CATEGORY_HEADERS = 3;

/** Verdicts of `onHeader`: go on; reset this stream and skip the rest of its header section; end the session. */
export const HEADER_OK = 0;
export const HEADER_REFUSE_STREAM = 1;
export const HEADER_FAIL_SESSION = 2;

/** `send` needs this much room: the largest frame the engine serialises (16 KiB payload, header, padding). */
export const SEND_ROOM_BYTES = 16 * 1024 + 64;

export interface EngineHandler {
  onHeader(streamId: number, category: number, name: string, value: string): number;
  /** A header section is complete. */
  onHeaders(streamId: number, category: number, endStream: boolean): void;
  /** Payload of a DATA frame that was given to `receive`, lying at `offset` of its arena. */
  onData(streamId: number, offset: number, length: number): void;
  onEndStream(streamId: number): void;
  /** Every other frame. `value`: error code (RST_STREAM, GOAWAY). */
  onControl(type: number, flags: number, streamId: number, value: number): void;
  /** The engine answers this frame with a stream or session error of its own. */
  onInvalidFrame(type: number, streamId: number, engineError: number): void;
  onStreamClosed(streamId: number, errorCode: number): void;
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
const endOfBody = allocateBlock(4);
endOfBody.bytes.writeUInt32LE(1, 0);
keptAlive.push(endOfBody);

function takePointer(): number {
  return out.bytes.readUInt32LE(0) + out.bytes.readUInt32LE(4) * 0x1_0000_0000;
}

/** The session whose `receive` or `send` runs now. */
let current: Nghttp2Session | undefined;

export class Nghttp2Session {
  readonly #handler: EngineHandler;
  #session: number;
  #inside = false;
  #freeWanted = false;
  #thrown: AmbitError | undefined;
  #receiveBase = 0;
  /** A GOAWAY was serialised. */
  goawaySent = false;
  /** The last `send` stopped for lack of room. */
  sendIncomplete = false;

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
    const session = this.#live();
    const previous = this.#enter();
    this.#receiveBase = address - offset;
    const taken = nghttp2.receive(session, address, length);
    this.#leave(previous);
    if (taken !== length) throw engineError('receive', taken);
  }

  /**
   * Serialises control and header frames into the arena; returns the bytes put there. Stops when nothing is left or when less
   * than SEND_ROOM_BYTES of room remain: call again with room until 0 is returned.
   */
  send(arena: Arena, offset: number, length: number): number {
    const base = arena.addressOf(offset, length) - offset;
    const session = this.#live();
    const previous = this.#enter();
    const end = offset + length;
    let position = offset;
    let produced = 0;
    this.sendIncomplete = true;
    while (end - position >= SEND_ROOM_BYTES) {
      produced = nghttp2.send(session, out.bytes);
      if (produced <= 0) {
        this.sendIncomplete = false;
        break;
      }
      nghttp2.memcpy(base + position, takePointer(), produced);
      if (arena.bytes[position + 3] === FRAME_GOAWAY) this.goawaySent = true;
      position += produced;
    }
    this.#leave(previous);
    if (produced < 0) throw engineError('send', produced);
    return position - offset;
  }

  /** False when the engine has ended the session (its GOAWAY is sent) or no stream can follow. */
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
  submitRequest(headers: HeaderList, endStream: boolean): number {
    const id = this.#submitHeaders(-1, headers, endStream);
    if (id <= 0) throw new AmbitError('STREAM_REFUSED', `the session takes no more streams (${id})`);
    return id;
  }

  /** A response (also an informational one), or trailers when `endStream` follows a body. */
  submitHeaders(streamId: number, headers: HeaderList, endStream: boolean): void {
    check('headers', this.#submitHeaders(streamId, headers, endStream));
  }

  /** Our body is complete: an empty DATA frame with END_STREAM follows what was sent. */
  submitEnd(streamId: number): void {
    check('end', nghttp2.submitData(this.#live(), FLAG_END_STREAM, streamId, provider()));
  }

  /** The peer sees RST_STREAM. Harmless for streams that are gone. */
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

  /** Credit for payload that came through `onData`: the connection's share and the stream's. */
  creditConnection(byteLength: number): void {
    check('credit', nghttp2.consumeConnection(this.#live(), byteLength));
  }

  creditStream(streamId: number, byteLength: number): void {
    check('credit', nghttp2.consumeStream(this.#live(), streamId, byteLength));
  }

  /** A setting of the peer: the configured assumption or the default until it has told. `id`: RFC 9113 section 6.5.2. */
  peerSetting(id: number): number {
    return nghttp2.remoteSetting(this.#live(), id);
  }

  /** Frees the engine; inside a callback when the outermost call returns. Idempotent. */
  free(): void {
    if (this.#inside) this.#freeWanted = true;
    else this.#delete();
  }

  #submitHeaders(streamId: number, headers: HeaderList, endStream: boolean): number {
    const session = this.#live();
    const address = encodeHeaderPairs(headers);
    return nghttp2.submitHeaders(session, endStream ? FLAG_END_STREAM : 0, streamId, null, address, headers.length, 0);
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
    if (this.#inside) throw new AmbitError('USAGE', 'HTTP/2 engine entered from its own callback');
    const previous = current;
    current = this;
    this.#inside = true;
    return previous;
  }

  #leave(previous: Nghttp2Session | undefined): void {
    current = previous;
    this.#inside = false;
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
    const endStream = (flags & FLAG_END_STREAM) !== 0;
    if (type === FRAME_HEADERS) this.#handler.onHeaders(streamId, frameView.getUint32(56, true), endStream);
    if (type === FRAME_HEADERS || type === FRAME_DATA) {
      if (endStream) this.#handler.onEndStream(streamId);
    } else {
      const valueOffset = type === FRAME_GOAWAY ? 20 : 16;
      this.#handler.onControl(type, flags, streamId, frameView.getUint32(valueOffset, true));
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
}

function check(what: string, status: number): void {
  if (status < 0) throw engineError(what, status);
}

function engineError(what: string, code: number): AmbitError {
  return new AmbitError('H2_PROTOCOL', `HTTP/2 ${what}: engine error ${code}`);
}

/** Runs a callback on the current session; whatever it throws fails the session instead of crossing C. */
function guarded(work: (session: Nghttp2Session) => number): number {
  const session = current;
  if (session === undefined) return ERR_CALLBACK_FAILURE;
  try {
    return work(session);
  } catch (thrown) {
    return session.keep(thrown);
  }
}

let callbackTable = 0;
let dataProvider: Buffer | undefined;

/** The source of every body as the engine sees it: empty and at its end. */
function provider(): Uint8Array {
  if (dataProvider !== undefined) return dataProvider;
  const read = registerCallback((_session = 0, _stream = 0, _buffer = 0, _length = 0, flagsAddress = 0) => {
    nghttp2.memcpy(flagsAddress, endOfBody.address, 4);
    return 0;
  }, 'AmbitH2Read');
  dataProvider = allocateBlock(16).bytes;
  dataProvider.writeBigUInt64LE(read, 8);
  return dataProvider;
}

/** One callback table per thread; made on first use, lives as long as the thread. */
function callbacks(): number {
  if (callbackTable !== 0) return callbackTable;
  check('callbacks', nghttp2.callbacksNew(out.bytes));
  const table = takePointer();
  nghttp2.setOnHeader(
    table,
    registerCallback(
      (_session = 0, frameAddress = 0, name = 0, nameLength = 0, value = 0, valueLength = 0) =>
        guarded((session) => session.handleHeader(frameAddress, name, nameLength, value, valueLength)),
      'AmbitH2Header',
    ),
  );
  nghttp2.setOnFrame(
    table,
    registerCallback(
      (_session = 0, frameAddress = 0) => guarded((session) => session.handleFrame(frameAddress)),
      'AmbitH2Frame',
    ),
  );
  nghttp2.setOnInvalidFrame(
    table,
    registerCallback(
      (_session = 0, frameAddress = 0, code = 0) =>
        guarded((session) => session.handleInvalidFrame(frameAddress, code)),
      'AmbitH2Invalid',
    ),
  );
  nghttp2.setOnData(
    table,
    registerCallback(
      (_session = 0, _flags = 0, streamId = 0, address = 0, length = 0) =>
        guarded((session) => session.handleData(streamId, address, length)),
      'AmbitH2Data',
    ),
  );
  nghttp2.setOnStreamClose(
    table,
    registerCallback(
      (_session = 0, streamId = 0, code = 0) => guarded((session) => session.handleStreamClosed(streamId, code)),
      'AmbitH2Close',
    ),
  );
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
