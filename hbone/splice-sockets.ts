/**
 * Moves both directions between two sockets (same-node and plaintext paths), with half-close. Bytes go through the loop's
 * shared arena, and after BULK_BYTES of a direction through a pipe inside the kernel; what the receiving socket does not take
 * is held, and the source is not read again until it is gone. Ends exactly once, with exact counts.
 */
import type { AmbitError } from '../core/errors.ts';
import type { Arena } from '../reactor/arena.ts';
import { type ChannelOwner, READABLE, WOULD_BLOCK, WRITABLE } from '../reactor/byte-channel.ts';
import { HeldBytes } from '../reactor/http2/held-bytes.ts';
import { Http2Runtime } from '../reactor/http2/runtime.ts';
import type { EventLoop } from '../reactor/loop.ts';
import { SplicePipe } from '../reactor/splice-pipe.ts';
import type { TcpSocket } from '../reactor/tcp-socket.ts';
import { type Splice, type SpliceResult, socketError } from './splice.ts';

/** Bytes moved per event before other sockets of the loop get their turn. */
const READ_BYTES = 64 * 1024;
const READS_PER_EVENT = 4;
/** A direction that has moved this much goes on with splice(2): cheaper per byte, dearer per message. */
const BULK_BYTES = 256 * 1024;
/** At most what a pipe takes. */
const SPLICE_BYTES = 256 * 1024;

/** `fromSocket` and `toSocket` are seen from `a`. Takes both sockets over. */
export function spliceSockets(
  loop: EventLoop,
  a: TcpSocket,
  b: TcpSocket,
  onEnd: (result: SpliceResult) => void,
): Splice {
  return new SocketSplice(Http2Runtime.of(loop), a, b, onEnd);
}

class SocketSplice implements Splice {
  readonly #a: TcpSocket;
  readonly #b: TcpSocket;
  readonly #onEnd: (result: SpliceResult) => void;
  readonly #fromA: Direction;
  readonly #fromB: Direction;
  #ended = false;

  constructor(runtime: Http2Runtime, a: TcpSocket, b: TcpSocket, onEnd: (result: SpliceResult) => void) {
    this.#a = a;
    this.#b = b;
    this.#onEnd = onEnd;
    this.#fromA = new Direction(runtime, a, b);
    this.#fromB = new Direction(runtime, b, a);
    a.owner = this.#ownerOf(this.#fromA, this.#fromB);
    b.owner = this.#ownerOf(this.#fromB, this.#fromA);
    a.setInterest(READABLE);
    b.setInterest(READABLE);
  }

  get fromSocket(): number {
    return this.#fromA.bytes;
  }

  get toSocket(): number {
    return this.#fromB.bytes;
  }

  abort(error: AmbitError): void {
    this.#end(error, 'abort');
  }

  finish(reason: AmbitError): boolean {
    if (this.#ended) return true;
    if (!this.#fromA.wantsRead || !this.#fromB.wantsRead) return false;
    this.#end(reason, 'close');
    return true;
  }

  /** Events of a socket: `reading` is the direction it is the source of, `writing` the one it is the target of. */
  #ownerOf(reading: Direction, writing: Direction): ChannelOwner {
    return {
      onReadable: () => this.#settle(reading.pump(), reading, writing),
      onWritable: () => this.#settle(writing.drain(), reading, writing),
      onBroken: (errno) => this.#end(socketError(-errno), 'abort'),
    };
  }

  /** After progress: new interests, or the end. `result` negative = -errno of a socket. */
  #settle(result: number, one: Direction, other: Direction): void {
    if (this.#ended) return;
    if (result < 0) this.#end(socketError(result), 'abort');
    else if (one.finished && other.finished) this.#end(undefined, 'close');
    else {
      one.source.setInterest((one.wantsRead ? READABLE : 0) | (other.wantsWrite ? WRITABLE : 0));
      other.source.setInterest((other.wantsRead ? READABLE : 0) | (one.wantsWrite ? WRITABLE : 0));
    }
  }

  #end(error: AmbitError | undefined, how: 'close' | 'abort'): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#fromA.clear();
    this.#fromB.clear();
    this.#a[how]();
    this.#b[how]();
    const counts = { fromSocket: this.fromSocket, toSocket: this.toSocket };
    this.#onEnd(error === undefined ? counts : { ...counts, error });
  }
}

/** One direction: reads its source while the target takes everything. */
class Direction {
  readonly runtime: Http2Runtime;
  readonly source: TcpSocket;
  readonly #target: TcpSocket;
  readonly #held: HeldBytes;
  #sourceEnded = false;
  /** Has bytes inside that the target did not take; only then is it kept. */
  #pipe: SplicePipe | undefined = undefined;
  /** Bytes the target took. */
  bytes = 0;
  finished = false;

  constructor(runtime: Http2Runtime, source: TcpSocket, target: TcpSocket) {
    this.runtime = runtime;
    this.source = source;
    this.#target = target;
    this.#held = new HeldBytes(this);
  }

  get wantsRead(): boolean {
    return !this.#sourceEnded && !this.wantsWrite;
  }

  get wantsWrite(): boolean {
    return this.#held.length > 0 || this.#pipe !== undefined;
  }

  /** Reads and writes until one side would block. 0, or -errno. */
  pump(): number {
    if (this.bytes >= BULK_BYTES && this.wantsRead) {
      const pipe = SplicePipe.take();
      if (pipe !== undefined) return this.#splice(pipe);
    }
    const arena = this.runtime.receiveArena;
    for (let round = 0; round < READS_PER_EVENT && this.wantsRead; round++) {
      const length = this.source.read(arena, 0, READ_BYTES);
      if (length === WOULD_BLOCK) return 0;
      if (length < 0) return length;
      if (length === 0) {
        this.#sourceEnded = true;
        this.#finishWhenEmpty();
        return 0;
      }
      const taken = this.take(arena, 0, length);
      if (taken < 0) return taken;
      if (taken < length) this.#held.append(arena, taken, length - taken);
      if (length < READ_BYTES) return 0;
    }
    return 0;
  }

  /** Gives held bytes to the target. 0, or -errno. */
  drain(): number {
    if (this.#pipe !== undefined) return this.#splice(this.#pipe);
    const result = this.#held.offer(this);
    if (result < 0) return result;
    this.#finishWhenEmpty();
    return 0;
  }

  /** Also what `HeldBytes.offer` calls: bytes the target took, 0 when it is full, else -errno. */
  take(arena: Arena, offset: number, length: number): number {
    const written = this.#target.write(arena, offset, length);
    if (written > 0) this.bytes += written;
    return written === WOULD_BLOCK ? 0 : written;
  }

  clear(): void {
    this.#held.clear();
    this.#pipe?.close();
    this.#pipe = undefined;
  }

  /** Held bytes of a direction are bounded by one read; nothing to account. */
  accountHeld(_deltaBytes: number): void {}

  /** As `pump`, inside the kernel; begins with what is in the pipe. */
  #splice(pipe: SplicePipe): number {
    this.#pipe = undefined;
    for (let round = 0; round < READS_PER_EVENT; round++) {
      if (pipe.buffered === 0) {
        const filled = pipe.fill(this.source, SPLICE_BYTES);
        if (filled <= 0) {
          pipe.giveBack();
          if (filled < 0) return filled === WOULD_BLOCK ? 0 : filled;
          this.#sourceEnded = true;
          this.#finishWhenEmpty();
          return 0;
        }
      }
      const moved = pipe.drain(this.#target);
      if (moved > 0) this.bytes += moved;
      else if (moved !== WOULD_BLOCK) {
        pipe.close();
        return moved;
      }
      if (pipe.buffered > 0) {
        this.#pipe = pipe;
        return 0;
      }
    }
    pipe.giveBack();
    return 0;
  }

  #finishWhenEmpty(): void {
    if (!this.#sourceEnded || this.wantsWrite || this.finished) return;
    this.finished = true;
    this.#target.shutdownWrite();
  }
}
