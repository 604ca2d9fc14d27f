/**
 * An HTTP/2 client that says whatever a test wants: frames made by hand (RFC 9113 section 4.1) over `node:tls`. Header blocks
 * are literals without indexing (RFC 7541 section 6.2.2), so that no compressor state is needed.
 */
import { connect, type TLSSocket } from 'node:tls';
import type { SocketAddress } from '../../core/ip.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';

export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const END_STREAM = 1;
export const END_HEADERS = 4;
export const ACK = 1;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

const DEADLINE_MS = 10_000;
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

export class RawHttp2 {
  readonly frames: Frame[] = [];
  readonly #socket: TLSSocket;
  #buffer = Buffer.alloc(0);
  #watchers: (() => boolean)[] = [];
  closed = false;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on('data', (part: Buffer) => {
      this.#buffer = Buffer.concat([this.#buffer, part]);
      this.#parse();
      this.#notify();
    });
    socket.on('error', () => {});
    socket.on('end', () => this.#markClosed());
    socket.on('close', () => this.#markClosed());
  }

  /** Connects and says the preface with `settings` (default: none). null: says nothing. */
  static async open(
    to: SocketAddress,
    material: TlsMaterial,
    settings: Buffer | null = Buffer.alloc(0),
  ): Promise<RawHttp2> {
    const socket = connect({
      host: to.ip,
      port: to.port,
      cert: material.certificateChainPem,
      key: material.privateKeyPem,
      ca: material.rootsPem,
      ALPNProtocols: ['h2'],
      checkServerIdentity: () => undefined,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    socket.setNoDelay(true);
    const raw = new RawHttp2(socket);
    if (settings !== null) raw.write(Buffer.concat([Buffer.from(PREFACE), frame(TYPE.settings, 0, 0, settings)]));
    return raw;
  }

  write(bytes: Uint8Array): void {
    if (!this.closed) this.#socket.write(bytes);
  }

  send(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): void {
    this.write(frame(type, flags, streamId, payload));
  }

  connectRequest(streamId: number, authority: string, extra: readonly (readonly [string, string])[] = []): void {
    this.send(
      TYPE.headers,
      END_HEADERS,
      streamId,
      literals([[':method', 'CONNECT'], [':authority', authority], ...extra]),
    );
  }

  /** Waits for the server's SETTINGS and acknowledges them: from then on the server's own limits hold. */
  async acknowledge(): Promise<void> {
    await this.frame('SETTINGS', (candidate) => candidate.type === TYPE.settings && candidate.flags === 0);
    this.send(TYPE.settings, ACK, 0);
  }

  /** Waits for a frame, among those that have come and those that will. */
  async frame(what: string, matches: (frame: Frame) => boolean): Promise<Frame> {
    let found: Frame | undefined;
    await this.until(what, () => {
      found ??= this.frames.find(matches);
      return found !== undefined;
    });
    if (found === undefined) throw new Error(what);
    return found;
  }

  /** The error code of the GOAWAY the peer says. */
  async goaway(): Promise<number> {
    const found = await this.frame('GOAWAY', (candidate) => candidate.type === TYPE.goaway);
    return found.payload.readUInt32BE(4);
  }

  untilClosed(): Promise<void> {
    return this.until('the connection is closed', () => this.closed);
  }

  until(what: string, condition: () => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`timed out: ${what}`)), DEADLINE_MS);
    const look = () => {
      if (!condition()) return false;
      clearTimeout(timer);
      resolve();
      return true;
    };
    if (!look()) this.#watchers.push(look);
    return promise;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Ends the TCP connection without a word. */
  destroy(): void {
    this.#socket.destroy();
  }

  #markClosed(): void {
    this.closed = true;
    this.#notify();
  }

  #notify(): void {
    this.#watchers = this.#watchers.filter((look) => !look());
  }

  #parse(): void {
    while (this.#buffer.length >= 9) {
      const length = this.#buffer.readUIntBE(0, 3);
      if (this.#buffer.length < 9 + length) return;
      this.frames.push({
        type: this.#buffer.readUInt8(3),
        flags: this.#buffer.readUInt8(4),
        streamId: this.#buffer.readUInt32BE(5) & 0x7fffffff,
        payload: this.#buffer.subarray(9, 9 + length),
      });
      this.#buffer = this.#buffer.subarray(9 + length);
    }
  }
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value >>> 0, index * 4);
  });
  return bytes;
}

export function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(id, 0);
  bytes.writeUInt32BE(value >>> 0, 2);
  return bytes;
}

export function literals(pairs: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(pairs.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

/** A string literal without Huffman coding (RFC 7541 section 5.2). */
export function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  return Buffer.concat([hpackInteger(7, 0, bytes.length), bytes]);
}

/** RFC 7541 section 5.1; `first`: the bits before the prefix. */
export function hpackInteger(prefixBits: number, first: number, value: number): Buffer {
  const limit = (1 << prefixBits) - 1;
  if (value < limit) return Buffer.from([first | value]);
  const bytes = [first | limit];
  let rest = value - limit;
  while (rest >= 128) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
