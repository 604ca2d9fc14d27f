/**
 * One watch: a stream of JSON lines, each an event. Ends when the server ends it (they all do after some minutes), when
 * nothing came for too long, or with an error. Who wants to see everything resumes: that is `Reflector`.
 */
import type { IncomingMessage } from 'node:http';
import { isRecord } from '../core/decoder.ts';
import { apiErrorOf, KubernetesApiError } from './api-error.ts';
import { type KubeObject, kubeObject } from './object.ts';
import { type HttpCall, unreachable } from './transport.ts';

/** Longest event. The API server stores objects of at most some 3 MiB. */
export const MAX_EVENT_BYTES = 16 * 1024 * 1024;

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: KubeObject }
  /** Everything up to this resource version was sent. */
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface WatchReading {
  /** Called in order. What it throws ends the watch. */
  onEvent(event: WatchEvent): void;
  /** The stream is cut after this silence. Servers send bookmarks about every minute. */
  readonly silenceMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Reads a watch to its end; the response is destroyed then. Rejects with KubernetesApiError: status 410 for a resource
 * version that is too old, 0 for a stream that broke, was silent (`Silent`) or made no sense (`MalformedEvent`,
 * `EventTooLarge`).
 */
export function readWatch(call: HttpCall, response: IncomingMessage, reading: WatchReading): Promise<void> {
  return new Promise((resolve, reject) => {
    const lines = new LineSplitter(MAX_EVENT_BYTES);
    let settled = false;
    const finish = (error?: unknown): void => {
      if (settled) return;
      settled = true;
      clearTimeout(silence);
      reading.signal?.removeEventListener('abort', onAbort);
      response.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    const onAbort = (): void => finish(unreachable(call, 'the caller stopped waiting'));
    const silence = setTimeout(
      () => finish(broken(call, 'Silent', `the watch was silent for ${reading.silenceMs} ms`)),
      reading.silenceMs,
    );
    if (reading.signal?.aborted === true) return onAbort();
    if (response.destroyed) return finish(unreachable(call, 'the watch was cut'));
    reading.signal?.addEventListener('abort', onAbort, { once: true });
    response.on('data', (chunk: Buffer) => {
      if (settled) return;
      silence.refresh();
      try {
        for (const line of lines.push(chunk)) {
          reading.onEvent(decodeEvent(call, line));
          if (settled) return;
        }
      } catch (thrown) {
        finish(thrown);
      }
    });
    response.on('error', (thrown) => finish(unreachable(call, thrown.message, thrown)));
    response.on('end', () => finish());
    response.on('close', () => finish(response.complete ? undefined : unreachable(call, 'the watch was cut')));
  });
}

function decodeEvent(call: HttpCall, line: string): WatchEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw broken(call, 'MalformedEvent', 'an event of the watch is not JSON');
  }
  if (!isRecord(value)) throw broken(call, 'MalformedEvent', 'an event of the watch is not an object');
  const { type } = value;
  if (type === 'ERROR') throw apiErrorOf(`${call.method} ${call.path}`, 200, value.object, undefined);
  if (type === 'BOOKMARK') {
    const metadata = isRecord(value.object) ? value.object.metadata : undefined;
    const version = isRecord(metadata) ? metadata.resourceVersion : undefined;
    if (typeof version === 'string' && version !== '') return { type, resourceVersion: version };
  }
  if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') {
    const object = kubeObject(value.object);
    if (object !== undefined) return { type, object };
  }
  throw broken(call, 'MalformedEvent', 'an event of the watch has no known type or no object');
}

function broken(call: HttpCall, reason: string, why: string): KubernetesApiError {
  return new KubernetesApiError(`${call.method} ${call.path}: ${why}`, { status: 0, reason });
}

/** Chunks to lines; a line longer than the limit throws. Bytes are copied once per line. */
export class LineSplitter {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  *push(chunk: Buffer): Generator<string> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end));
      start = end + 1;
      const line = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#length = 0;
      if (line !== '') yield line;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  #keep(part: Buffer): void {
    this.#length += part.length;
    if (this.#length > this.#limit) {
      const detail = `an event of a watch is larger than ${this.#limit} bytes`;
      throw new KubernetesApiError(detail, { status: 0, reason: 'EventTooLarge' });
    }
    this.#parts.push(part);
  }
}

const NEWLINE = 0x0a;
