/**
 * Which stream sends next, and how much: the send windows of the connection and its streams (RFC 9113 section 5.2), the peer's
 * frame size, and a queue of the streams that may have bytes. Streams take turns, one frame each, so a bulk transfer never
 * starves its neighbours. Payload is put into the arena by the stream's source, behind the frame header written here.
 */
import type { Arena } from '../arena.ts';
import { WOULD_BLOCK } from '../byte-channel.ts';
import { DEFAULT_WINDOW_BYTES, FRAME_DATA, FRAME_HEADER_BYTES, MAX_WINDOW_BYTES, writeFrameHeader } from './frames.ts';
import type { Http2Stream } from './stream.ts';

/** The largest DATA frame we send, whatever the peer allows: four TLS records, so that streams take turns often. */
const MAX_PAYLOAD_BYTES = 64 * 1024;
/** Room below which the next frame waits for an empty arena. */
const MIN_ROOM_BYTES = 2048;

/** `source said WOULD_BLOCK`, `stands in the queue`, `waits for a window update`, `body is complete`. */
export const SEND_IDLE = 0;
export const SEND_QUEUED = 1;
export const SEND_WINDOW_BLOCKED = 2;
export const SEND_DONE = 3;

export class SendScheduler {
  #connectionWindow = DEFAULT_WINDOW_BYTES;
  #initialWindow = DEFAULT_WINDOW_BYTES;
  #maxPayload = 16_384;
  #first: Http2Stream | undefined;
  #last: Http2Stream | undefined;
  /** A stream whose body just ended; the session tells the engine. Set by `fill`. */
  ended: Http2Stream | undefined;

  /** Window a new stream begins with. */
  get initialWindow(): number {
    return this.#initialWindow;
  }

  /** True when a stream could send now. */
  get canSend(): boolean {
    return this.#first !== undefined && this.#connectionWindow > 0;
  }

  /** The stream may have bytes, or the end of its body. */
  enqueue(stream: Http2Stream): void {
    if (stream.sendState === SEND_QUEUED || stream.sendState === SEND_DONE) return;
    stream.sendState = SEND_QUEUED;
    stream.nextToSend = undefined;
    if (this.#last === undefined) this.#first = stream;
    else this.#last.nextToSend = stream;
    this.#last = stream;
  }

  /** The peer's settings: new initial window (applies to open streams too, section 6.9.2) and frame size. False = a window overflows. */
  applySettings(initialWindow: number, maxFrameSize: number, streams: readonly Http2Stream[]): boolean {
    this.#maxPayload = Math.min(maxFrameSize, MAX_PAYLOAD_BYTES);
    const delta = initialWindow - this.#initialWindow;
    this.#initialWindow = initialWindow;
    if (delta === 0) return true;
    for (const stream of streams) if (!this.creditStream(stream, delta)) return false;
    return true;
  }

  /** False = the window would exceed its maximum (section 6.9.1). */
  creditConnection(increment: number): boolean {
    this.#connectionWindow += increment;
    return this.#connectionWindow <= MAX_WINDOW_BYTES;
  }

  /** As `creditConnection`, for a stream. */
  creditStream(stream: Http2Stream, increment: number): boolean {
    stream.sendWindow += increment;
    if (stream.sendWindow > 0 && stream.sendState === SEND_WINDOW_BLOCKED) this.enqueue(stream);
    return stream.sendWindow <= MAX_WINDOW_BYTES;
  }

  /**
   * Frames bodies into the arena from `position` on, one frame at most per stream and turn of the queue, until the room, the
   * windows or the queue are used up or a body ends (then `ended` is set: the caller tells the engine and calls again). Returns the
   * new position.
   */
  fill(arena: Arena, start: number, end: number): number {
    let position = start;
    this.ended = undefined;
    for (;;) {
      const stream = this.#first;
      const room = end - position - FRAME_HEADER_BYTES;
      if (stream === undefined || room < MIN_ROOM_BYTES || this.#connectionWindow <= 0) return position;
      this.#dequeue(stream);
      if (stream.closed) continue;
      if (stream.sendWindow <= 0) {
        stream.sendState = SEND_WINDOW_BLOCKED;
        continue;
      }
      const most = Math.min(room, this.#maxPayload, stream.sendWindow, this.#connectionWindow);
      const filled = stream.handleFill(arena, position + FRAME_HEADER_BYTES, most);
      if (filled > 0) {
        writeFrameHeader(arena.bytes, position, filled, FRAME_DATA, 0, stream.id);
        position += FRAME_HEADER_BYTES + filled;
        stream.sendWindow -= filled;
        this.#connectionWindow -= filled;
        if (!stream.closed) this.enqueue(stream);
      } else if (filled === 0) {
        stream.sendState = SEND_DONE;
        this.ended = stream;
        return position;
      } else if (filled !== WOULD_BLOCK) return position;
    }
  }

  #dequeue(stream: Http2Stream): void {
    this.#first = stream.nextToSend;
    if (this.#first === undefined) this.#last = undefined;
    stream.nextToSend = undefined;
    stream.sendState = SEND_IDLE;
  }
}
