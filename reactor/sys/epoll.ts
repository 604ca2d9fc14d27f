/**
 * One epoll set: registration and waiting, without allocation. Every registration carries a generation beside the
 * descriptor, so that an event of a descriptor that was closed and reused meanwhile is told apart.
 *
 * `struct epoll_event` is packed (12 bytes) on x86-64 and naturally aligned (16 bytes) elsewhere.
 */
import { EINTR, errno, systemCallError } from './errno.ts';
import { CLOEXEC, sys } from './libc.ts';
import { allocateBlock, type NativeBlock } from './memory.ts';
import { closeFd } from './socket-options.ts';

const PACKED = process.arch === 'x64';
const WORDS_PER_EVENT = PACKED ? 3 : 4;
const DATA_WORD = PACKED ? 1 : 2;
const MAX_EVENTS = 512;
const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;

export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
export const EPOLLHUP = 16;

export class Epoll {
  readonly fd: number;
  readonly #events: NativeBlock = allocateBlock(MAX_EVENTS * WORDS_PER_EVENT * 4);
  readonly #words = new Uint32Array(this.#events.bytes.buffer);
  readonly #one: NativeBlock = allocateBlock(WORDS_PER_EVENT * 4);
  readonly #oneWords = new Uint32Array(this.#one.bytes.buffer);

  constructor() {
    this.fd = sys.epoll_create1(CLOEXEC);
    if (this.fd < 0) throw systemCallError('epoll_create1', '');
  }

  add(fd: number, mask: number, generation: number): void {
    this.#control(CTL_ADD, fd, mask, generation);
  }

  modify(fd: number, mask: number, generation: number): void {
    this.#control(CTL_MOD, fd, mask, generation);
  }

  remove(fd: number): void {
    this.#control(CTL_DEL, fd, 0, 0);
  }

  /** Waits up to `timeoutMs`; the number of events, 0 when interrupted. */
  wait(timeoutMs: number): number {
    const count = sys.epoll_wait(this.fd, this.#events.address, MAX_EVENTS, timeoutMs);
    if (count >= 0) return count;
    if (errno() === EINTR) return 0;
    throw systemCallError('epoll_wait', '');
  }

  /** Event bits of the `index`-th event of the last `wait`. */
  maskAt(index: number): number {
    return this.#words[index * WORDS_PER_EVENT] ?? 0;
  }

  fdAt(index: number): number {
    return this.#words[index * WORDS_PER_EVENT + DATA_WORD] ?? 0;
  }

  generationAt(index: number): number {
    return this.#words[index * WORDS_PER_EVENT + DATA_WORD + 1] ?? 0;
  }

  close(): void {
    closeFd(this.fd);
  }

  #control(operation: number, fd: number, mask: number, generation: number): void {
    const words = this.#oneWords;
    words[0] = mask;
    words[DATA_WORD] = fd;
    words[DATA_WORD + 1] = generation;
    if (sys.epoll_ctl(this.fd, operation, fd, this.#one.address) !== 0) {
      throw systemCallError('epoll_ctl', `operation ${operation} of descriptor ${fd}`);
    }
  }
}
