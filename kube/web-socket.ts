/**
 * The client's end of a WebSocket (RFC 6455) on a connection that was upgraded: binary messages in both directions, as
 * port-forwarding needs them. No extensions. What the peer may make us hold is one message of bounded size.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';

export interface WebSocketSink {
  message(data: Buffer): void;
  /** Called once. `reason` is empty for an orderly end. */
  closed(reason: string): void;
}

/** Longest message of the peer. The kubelet sends 32 KiB at a time. */
const MAX_MESSAGE_BYTES = 1024 * 1024;

const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export class WebSocketClient {
  readonly #socket: Duplex;
  readonly #sink: WebSocketSink;
  #buffered: Buffer = Buffer.alloc(0);
  /** Parts of a message whose end has not come. */
  #parts: Buffer[] = [];
  #partsLength = 0;
  #closed = false;

  /** Takes the socket over. `head`: bytes that came right after the answer to the upgrade. */
  constructor(socket: Duplex, head: Buffer, sink: WebSocketSink) {
    this.#socket = socket;
    this.#sink = sink;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('error', (error) => this.#end(error.message));
    socket.on('close', () => this.#end('the connection ended'));
    if (head.length > 0) queueMicrotask(() => this.#read(head));
  }

  /** False when the caller should wait for `drained`. */
  send(data: Buffer): boolean {
    return this.#closed ? true : this.#socket.write(frame(OPCODE.binary, data));
  }

  drained(listener: () => void): void {
    this.#socket.once('drain', listener);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    if (this.#closed) return;
    this.#socket.write(frame(OPCODE.close, Buffer.from([0x03, 0xe8])));
    this.#end('');
  }

  #read(chunk: Buffer): void {
    this.#buffered = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    for (;;) {
      if (this.#closed) return;
      const next = parseFrame(this.#buffered);
      if (next === 'more') return;
      if (next === 'malformed') {
        this.#end('the peer does not speak WebSocket');
        return;
      }
      this.#buffered = this.#buffered.subarray(next.length);
      this.#take(next);
    }
  }

  #take({ opcode, final, payload }: Frame): void {
    switch (opcode) {
      case OPCODE.ping:
        this.#socket.write(frame(OPCODE.pong, payload));
        return;
      case OPCODE.pong:
        return;
      case OPCODE.close: {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1000;
        this.#end(code === 1000 ? '' : `${code} ${payload.subarray(2).toString('utf8')}`);
        return;
      }
      default:
        this.#partsLength += payload.length;
        if (this.#partsLength > MAX_MESSAGE_BYTES) {
          this.#end('a message is too long');
          return;
        }
        this.#parts.push(payload);
        if (!final) return;
        this.#sink.message(this.#parts.length === 1 ? payload : Buffer.concat(this.#parts));
        this.#parts = [];
        this.#partsLength = 0;
    }
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.end();
    this.#socket.destroy();
    this.#sink.closed(reason);
  }
}

interface Frame {
  readonly opcode: number;
  readonly final: boolean;
  readonly payload: Buffer;
  /** Of the whole frame, bytes. */
  readonly length: number;
}

/** RFC 6455 section 5.2. Servers do not mask. */
export function parseFrame(bytes: Buffer): Frame | 'more' | 'malformed' {
  if (bytes.length < 2) return 'more';
  const first = bytes.readUInt8(0);
  const second = bytes.readUInt8(1);
  if ((first & 0x70) !== 0 || (second & 0x80) !== 0) return 'malformed';
  const short = second & 0x7f;
  const header = short === 127 ? 10 : short === 126 ? 4 : 2;
  if (bytes.length < header) return 'more';
  const length = short === 127 ? Number(bytes.readBigUInt64BE(2)) : short === 126 ? bytes.readUInt16BE(2) : short;
  if (length > MAX_MESSAGE_BYTES) return 'malformed';
  if (bytes.length < header + length) return 'more';
  const payload = bytes.subarray(header, header + length);
  return { opcode: first & 0x0f, final: (first & 0x80) !== 0, payload, length: header + length };
}

/** A whole frame of a client: masked, as section 5.3 demands. */
export function frame(opcode: number, payload: Buffer): Buffer {
  const { length } = payload;
  const header = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const bytes = Buffer.allocUnsafe(header + 4 + length);
  bytes.writeUInt8(0x80 | opcode, 0);
  if (header === 2) bytes.writeUInt8(0x80 | length, 1);
  else if (header === 4) {
    bytes.writeUInt8(0x80 | 126, 1);
    bytes.writeUInt16BE(length, 2);
  } else {
    bytes.writeUInt8(0x80 | 127, 1);
    bytes.writeBigUInt64BE(BigInt(length), 2);
  }
  const mask = randomBytes(4);
  mask.copy(bytes, header);
  for (let index = 0; index < length; index++) {
    bytes[header + 4 + index] = (payload[index] ?? 0) ^ (mask[index & 3] ?? 0);
  }
  return bytes;
}
