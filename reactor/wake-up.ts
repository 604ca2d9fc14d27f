/**
 * Waking a loop from another thread: an eventfd (eventfd(2)) in its epoll set. Signals that arrive before the loop looks
 * count as one. Descriptors are valid in every thread of the process; after `close` nobody may signal the number again.
 */
import type { DescriptorHandler, EventLoop } from './loop.ts';
import { EPOLLIN } from './sys/epoll.ts';
import { systemCallError } from './sys/errno.ts';
import { NONBLOCK_CLOEXEC, sys } from './sys/libc.ts';
import { allocateBlock } from './sys/memory.ts';
import { closeFd } from './sys/socket-options.ts';

export interface WakeUp {
  /** Pass to `signalWakeUp` on any thread of this process. */
  readonly fd: number;
  /** Idempotent. */
  close(): void;
}

const one = allocateBlock(8);
one.bytes.writeBigUInt64LE(1n);
const drained = allocateBlock(8);

class EventDescriptor implements WakeUp, DescriptorHandler {
  readonly fd: number;
  readonly #loop: EventLoop;
  readonly #onWake: () => void;
  #open = true;

  constructor(loop: EventLoop, onWake: () => void) {
    this.#loop = loop;
    this.#onWake = onWake;
    this.fd = sys.eventfd(0, NONBLOCK_CLOEXEC);
    if (this.fd < 0) throw systemCallError('eventfd', '');
    loop.register(this.fd, this, EPOLLIN);
  }

  onEvents(): void {
    sys.read(this.fd, drained.address, 8);
    this.#onWake();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#loop.unregister(this.fd, true);
    closeFd(this.fd);
  }
}

export function openWakeUp(loop: EventLoop, onWake: () => void): WakeUp {
  return new EventDescriptor(loop, onWake);
}

/** Makes the loop that owns `fd` call its wake-up handler soon. Never blocks. */
export function signalWakeUp(fd: number): void {
  sys.write(fd, one.address, 8);
}
