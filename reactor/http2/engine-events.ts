/**
 * What the engine reports while it is fed: header sections, ends of streams, control frames, mistakes of the peer. Runs inside
 * the engine's callbacks, where a session may only note a failure; it takes effect when the engine has returned.
 */
import { AmbitError } from '../../core/errors.ts';
import {
  CATEGORY_HEADERS,
  CATEGORY_REQUEST,
  CATEGORY_RESPONSE,
  type EngineHandler,
  HEADER_FAIL_SESSION,
  HEADER_OK,
  HEADER_REFUSE_STREAM,
} from '../sys/nghttp2.ts';
import { errorCodeName, INTERNAL_ERROR, NO_ERROR } from './error-codes.ts';
import type { FloodGuard } from './flood-guard.ts';
import { FLAG_ACK, FRAME_GOAWAY, FRAME_PING, FRAME_RST_STREAM, FRAME_SETTINGS } from './frames.ts';
import { ReceivedHeaders } from './headers.ts';
import type { Http2Session } from './session.ts';
import type { StreamTable } from './stream-table.ts';

export class EngineEvents implements EngineHandler {
  readonly #session: Http2Session;
  readonly #streams: StreamTable;
  readonly #guard: FloodGuard;
  /** The header section that is arriving, and whose it is. */
  #collected: ReceivedHeaders | undefined;
  #collectedStreamId = 0;
  /** What the peer did wrong last, in words; empty = nothing. */
  lastInvalid = '';

  constructor(session: Http2Session, streams: StreamTable, guard: FloodGuard) {
    this.#session = session;
    this.#streams = streams;
    this.#guard = guard;
  }

  onHeader(streamId: number, category: number, name: string, value: string): number {
    const { limits } = this.#session;
    if (this.#collectedStreamId !== streamId || this.#collected === undefined) {
      this.#collected = new ReceivedHeaders();
      this.#collectedStreamId = streamId;
    }
    const headers = this.#collected;
    headers.append(name, value);
    if (headers.byteLength <= limits.maxRequestHeaderBytes && headers.count <= limits.maxHeaderFields) return HEADER_OK;
    if (headers.byteLength > limits.maxHeaderListBytes) {
      this.#session.flood('maxHeaderListBytes');
      return HEADER_FAIL_SESSION;
    }
    if (category === CATEGORY_REQUEST && this.#session.exceeds('earlyResets')) return HEADER_FAIL_SESSION;
    return HEADER_REFUSE_STREAM;
  }

  onHeaders(streamId: number, category: number, endStream: boolean): void {
    const headers = this.#collectedStreamId === streamId ? this.#collected : undefined;
    this.#collected = undefined;
    this.#collectedStreamId = 0;
    const section = headers ?? new ReceivedHeaders();
    if (category === CATEGORY_REQUEST) {
      this.#session.openRequest(streamId, section, endStream);
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
    const stream = this.#streams.find(streamId);
    this.#session.creditEngine(length, stream === undefined ? streamId : undefined);
    if (stream === undefined) return;
    if (stream.engineReceives) stream.handleData(this.#session.runtime.receiveArena, offset, length);
    else {
      this.#session.fail(new AmbitError('USAGE', 'DATA of a stream of ours went through the engine'), INTERNAL_ERROR);
    }
  }

  onEndStream(streamId: number): void {
    this.#streams.find(streamId)?.handleRemoteEnd();
  }

  onControl(type: number, flags: number, streamId: number, value: number): void {
    const acknowledges = (flags & FLAG_ACK) !== 0;
    switch (type) {
      case FRAME_RST_STREAM: {
        const stream = this.#streams.find(streamId);
        this.#session.exceeds(stream === undefined || stream.answered ? 'resets' : 'earlyResets');
        return;
      }
      case FRAME_SETTINGS:
        if (!acknowledges) this.#session.onPeerSettings();
        return;
      case FRAME_PING:
        if (acknowledges) this.#session.onPong();
        return;
      case FRAME_GOAWAY:
        if (value !== NO_ERROR) this.lastInvalid = `the peer sent GOAWAY ${errorCodeName(value)}`;
        this.#session.onPeerGoaway();
        return;
      default:
    }
  }

  onInvalidFrame(type: number, streamId: number, engineError: number): void {
    this.lastInvalid = `frame of type ${type} on stream ${streamId} is invalid (engine ${engineError})`;
    this.#streams.find(streamId)?.doom();
    this.#session.exceeds('invalidFrames');
  }

  onStreamClosed(streamId: number, errorCode: number): void {
    this.#streams.find(streamId)?.handleEngineClosed(errorCode);
  }
}
