/**
 * Moving bytes between two sockets inside the kernel: splice(2) from a socket into a pipe and from the pipe into another
 * socket, without touching user space. For bulk transfers; small exchanges are cheaper by copy. Pipes cost two descriptors
 * and up to PIPE_BYTES of kernel memory while bytes are inside, so they are taken from a pool for the time they are used.
 */
import { AmbitError } from '../core/errors.ts';
import { failedResult } from './sys/errno.ts';
import { F_SETPIPE_SZ, NONBLOCK_CLOEXEC, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, sys } from './sys/libc.ts';
import { allocateBlock } from './sys/memory.ts';
import { closeFd } from './sys/socket-options.ts';
import type { TcpSocket } from './tcp-socket.ts';

/** Capacity asked for; the kernel may give less (fs.pipe-max-size, fs.pipe-user-pages-soft). */
const PIPE_BYTES = 1 << 18;
const MAX_IDLE_PIPES = 16;
const FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

const out = allocateBlock(8);
const idle: SplicePipe[] = [];

export class SplicePipe {
  /** Bytes inside. */
  buffered = 0;
  #readEnd: number;
  #writeEnd: number;

  private constructor(readEnd: number, writeEnd: number) {
    this.#readEnd = readEnd;
    this.#writeEnd = writeEnd;
  }

  /** A pipe from the pool of this thread, or a new one; undefined when the kernel refuses one (out of descriptors): then copy. */
  static take(): SplicePipe | undefined {
    const pooled = idle.pop();
    if (pooled !== undefined) return pooled;
    if (sys.pipe2(out.address, NONBLOCK_CLOEXEC) !== 0) return undefined;
    const pipe = new SplicePipe(out.bytes.readInt32LE(0), out.bytes.readInt32LE(4));
    sys.fcntl(pipe.#writeEnd, F_SETPIPE_SZ, PIPE_BYTES);
    return pipe;
  }

  /** Back to the pool when it is empty; otherwise, or when the pool is full, it is closed. The caller forgets it. */
  giveBack(): void {
    if (this.#readEnd < 0) return;
    if (this.buffered === 0 && idle.length < MAX_IDLE_PIPES) idle.push(this);
    else this.close();
  }

  /**
   * Moves up to `maxBytes` from a socket into the pipe. Bytes moved, 0 at the end of the stream, or -errno; WOULD_BLOCK means
   * that the socket has nothing or, with bytes inside, that the pipe may be full.
   */
  fill(from: TcpSocket, maxBytes: number): number {
    if (!(maxBytes >= 1)) throw new AmbitError('USAGE', `splice of ${maxBytes} bytes`);
    const result = this.#move(from.fd, this.#writeEnd, maxBytes);
    if (result > 0) this.buffered += result;
    return result;
  }

  /** Moves what is inside to a socket. Bytes moved, 0 when the pipe is empty, or -errno (WOULD_BLOCK: the socket is full). */
  drain(to: TcpSocket): number {
    if (this.buffered === 0) return 0;
    const result = this.#move(this.#readEnd, to.fd, this.buffered);
    if (result > 0) this.buffered -= result;
    return result;
  }

  /** Closes the pipe and drops what is inside. Idempotent. */
  close(): void {
    if (this.#readEnd < 0) return;
    closeFd(this.#readEnd);
    closeFd(this.#writeEnd);
    this.#readEnd = -1;
    this.#writeEnd = -1;
    this.buffered = 0;
  }

  /** Closes the pooled pipes of this thread. */
  static closePool(): void {
    for (const pipe of idle.splice(0)) pipe.close();
  }

  #move(from: number, to: number, maxBytes: number): number {
    if (from < 0 || to < 0) throw new AmbitError('CLOSED', 'splice with a closed pipe or socket');
    const result = sys.splice(from, 0, to, 0, maxBytes, FLAGS);
    return result >= 0 ? result : failedResult();
  }
}
