/**
 * Walks the frames of a byte stream as it arrives in pieces and decides for each who handles it: DATA payload and window
 * updates of streams the session moves itself are taken here; everything else goes on to the engine, untouched and in order.
 *
 * A walker never copies payload. It keeps at most one incomplete frame header (or window update) between pieces. What is
 * inside a header block (HEADERS without END_HEADERS) is always the engine's, which knows what may follow.
 */
import { Arena } from '../arena.ts';
import {
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_HEADER_BYTES,
  FRAME_HEADERS,
  FRAME_PUSH_PROMISE,
  FRAME_WINDOW_UPDATE,
  readUint31,
  writeFrameHeader,
} from './frames.ts';

export interface FrameHandler {
  /** Any frame header, before anything else is done with it. False = stop walking for good. */
  onFrame(type: number, flags: number, streamId: number, length: number, headerBlockBytes: number): boolean;
  /** Whether this DATA frame is taken here (then `onPayload` follows) or by the engine. `length`: with padding. */
  takesData(streamId: number, flags: number, length: number): boolean;
  /** A piece of payload of the frame that was taken. False = stop. */
  onPayload(arena: Arena, offset: number, length: number): boolean;
  /** All of the frame's payload was given. `paddingBytes`: its padding, for flow control. False = stop. */
  onPayloadEnd(paddingBytes: number): boolean;
  /** Whether this window update was handled here; undefined = stop. */
  takesWindowUpdate(streamId: number, increment: number): boolean | undefined;
  /** Bytes for the engine. False = stop. */
  toEngine(arena: Arena, offset: number, length: number): boolean;
}

const PREFACE_BYTES = 24;
const WINDOW_UPDATE_BYTES = FRAME_HEADER_BYTES + 4;

const IN_HEADER = 0;
const IN_PASSED = 1;
const IN_TAKEN = 2;

export class FrameWalker {
  readonly #handler: FrameHandler;
  /** Holds an incomplete frame header, and frames made here for the engine. */
  readonly #small = new Arena(32);
  #partial = 0;
  #state = IN_HEADER;
  /** Payload bytes of the current frame still to come (without padding, when taken here). */
  #left = 0;
  #paddingLeft = 0;
  #padding = 0;
  #padLengthWanted = false;
  #takenStreamId = 0;
  #takenEnds = false;
  #inHeaderBlock = false;
  #headerBlockBytes = 0;
  #stopped = false;

  /** `server`: the stream begins with the client's preface, which is the engine's to judge. */
  constructor(handler: FrameHandler, server: boolean) {
    this.#handler = handler;
    if (!server) return;
    this.#state = IN_PASSED;
    this.#left = PREFACE_BYTES;
  }

  /** Handles the next bytes of the stream. False once it was stopped. */
  walk(arena: Arena, offset: number, length: number): boolean {
    const bytes = arena.bytes;
    const end = offset + length;
    let at = offset;
    /** Start of the bytes that go to the engine in one piece. */
    let runStart = offset;
    if (this.#stopped) return false;
    if (this.#partial > 0) {
      at = this.#completePartial(arena, offset, end);
      if (at < 0) return false;
      runStart = at;
    }
    while (at < end) {
      if (this.#state === IN_PASSED) {
        const step = Math.min(this.#left, end - at);
        at += step;
        this.#left -= step;
        if (this.#left === 0) this.#state = IN_HEADER;
      } else if (this.#state === IN_TAKEN) {
        at = this.#takePayload(arena, at, end);
        if (at < 0) return this.#stop();
        runStart = at;
      } else {
        const wanted = headerBytesWanted(bytes, at, end);
        if (end - at < wanted) {
          if (!this.#flush(arena, runStart, at)) return this.#stop();
          this.#partial = bytes.copy(this.#small.bytes, 0, at, end);
          return true;
        }
        if (runStart < at && mayBeTaken(bytes, at)) {
          // The engine must have seen what came before (the HEADERS that opened the stream) when this frame is judged.
          if (!this.#flush(arena, runStart, at)) return this.#stop();
          runStart = at;
        }
        if (!this.#begin(bytes, at)) return this.#stop();
        if (this.#state === IN_PASSED) {
          at += FRAME_HEADER_BYTES;
          if (this.#left === 0) this.#state = IN_HEADER;
          continue;
        }
        at += this.#state === IN_TAKEN ? FRAME_HEADER_BYTES : WINDOW_UPDATE_BYTES;
        runStart = at;
        if (this.#state === IN_TAKEN && this.#left === 0 && !this.#padLengthWanted && !this.#endTaken()) {
          return this.#stop();
        }
      }
    }
    return this.#flush(arena, runStart, at) || this.#stop();
  }

  free(): void {
    this.#stopped = true;
    this.#small.free();
  }

  /** Completes a frame header from the new piece. Returns where to go on, or -1 when stopped. */
  #completePartial(arena: Arena, offset: number, end: number): number {
    const small = this.#small.bytes;
    let at = offset;
    while (this.#partial < headerBytesWanted(small, 0, this.#partial)) {
      if (at === end) return at;
      small[this.#partial++] = arena.bytes[at++] ?? 0;
    }
    const size = this.#partial;
    this.#partial = 0;
    let fine = this.#begin(small, 0);
    if (fine && this.#state === IN_PASSED) {
      // A window update that is the engine's is already complete here.
      const payload = size - FRAME_HEADER_BYTES;
      this.#left -= payload;
      if (this.#left === 0) this.#state = IN_HEADER;
      fine = this.#handler.toEngine(this.#small, 0, size);
    } else if (fine && this.#state === IN_TAKEN && this.#left === 0 && !this.#padLengthWanted) fine = this.#endTaken();
    if (fine) return at;
    this.#stop();
    return -1;
  }

  /** Looks at a complete frame header and sets the state for what follows. False = stop. */
  #begin(bytes: Uint8Array, at: number): boolean {
    const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    const type = bytes[at + 3] ?? 0;
    const flags = bytes[at + 4] ?? 0;
    const streamId = readUint31(bytes, at + 5);
    this.#noteHeaderBlock(type, flags, length);
    if (!this.#handler.onFrame(type, flags, streamId, length, this.#headerBlockBytes)) return false;
    if (!this.#inHeaderBlock) {
      const padLengthMissing = length === 0 && (flags & FLAG_PADDED) !== 0;
      if (type === FRAME_DATA && !padLengthMissing && this.#handler.takesData(streamId, flags, length)) {
        this.#state = IN_TAKEN;
        this.#left = length;
        this.#takenStreamId = streamId;
        this.#takenEnds = (flags & FLAG_END_STREAM) !== 0;
        this.#padding = 0;
        this.#paddingLeft = 0;
        this.#padLengthWanted = (flags & FLAG_PADDED) !== 0;
        return true;
      }
      if (type === FRAME_WINDOW_UPDATE && length === 4) {
        const taken = this.#handler.takesWindowUpdate(streamId, readUint31(bytes, at + FRAME_HEADER_BYTES));
        if (taken === undefined) return false;
        this.#state = IN_HEADER;
        if (taken) return true;
      }
    }
    this.#state = IN_PASSED;
    this.#left = length;
    return true;
  }

  #noteHeaderBlock(type: number, flags: number, length: number): void {
    if (type === FRAME_HEADERS || type === FRAME_PUSH_PROMISE) this.#headerBlockBytes = length;
    else if (type === FRAME_CONTINUATION) this.#headerBlockBytes += length;
    else {
      this.#headerBlockBytes = 0;
      return;
    }
    this.#inHeaderBlock = (flags & FLAG_END_HEADERS) === 0;
  }

  /** Gives payload of a taken frame. Returns where to go on, or -1 = stop. */
  #takePayload(arena: Arena, start: number, end: number): number {
    let at = start;
    if (this.#padLengthWanted) {
      this.#padLengthWanted = false;
      const padLength = arena.bytes[at++] ?? 0;
      // Padding that fills the whole frame or more is a protocol error (RFC 9113 section 6.1): left to the engine.
      if (padLength >= this.#left) return this.#rejectPadding(padLength);
      this.#left -= 1 + padLength;
      this.#paddingLeft = padLength;
      this.#padding = 1 + padLength;
    }
    if (this.#left > 0) {
      const step = Math.min(this.#left, end - at);
      if (step > 0) {
        this.#left -= step;
        if (!this.#handler.onPayload(arena, at, step)) return -1;
        at += step;
      }
    }
    if (this.#left > 0) return at;
    const skipped = Math.min(this.#paddingLeft, end - at);
    this.#paddingLeft -= skipped;
    at += skipped;
    if (this.#paddingLeft > 0) return at;
    return this.#endTaken() ? at : -1;
  }

  /** The engine hears of the end of a body as an empty frame. */
  #endTaken(): boolean {
    this.#state = IN_HEADER;
    if (!this.#handler.onPayloadEnd(this.#padding)) return false;
    if (!this.#takenEnds) return true;
    writeFrameHeader(this.#small.bytes, 0, 0, FRAME_DATA, FLAG_END_STREAM, this.#takenStreamId);
    return this.#handler.toEngine(this.#small, 0, FRAME_HEADER_BYTES);
  }

  /** Repeats the frame's beginning to the engine, which ends the session for it. */
  #rejectPadding(padLength: number): number {
    const small = this.#small.bytes;
    writeFrameHeader(small, 0, 1, FRAME_DATA, FLAG_PADDED, this.#takenStreamId);
    small[FRAME_HEADER_BYTES] = padLength;
    this.#handler.toEngine(this.#small, 0, FRAME_HEADER_BYTES + 1);
    return -1;
  }

  #flush(arena: Arena, start: number, end: number): boolean {
    return start >= end || this.#handler.toEngine(arena, start, end - start);
  }

  #stop(): false {
    this.#stopped = true;
    return false;
  }
}

function mayBeTaken(bytes: Uint8Array, at: number): boolean {
  const type = bytes[at + 3];
  return type === FRAME_DATA || type === FRAME_WINDOW_UPDATE;
}

/** Bytes needed before a frame can be judged: its header, and the payload of a window update. */
function headerBytesWanted(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < FRAME_HEADER_BYTES) return FRAME_HEADER_BYTES;
  const isWindowUpdate = bytes[at + 3] === FRAME_WINDOW_UPDATE;
  const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
  return isWindowUpdate && length === 4 ? WINDOW_UPDATE_BYTES : FRAME_HEADER_BYTES;
}
