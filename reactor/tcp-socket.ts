/**
 * A connected, non-blocking TCP socket of one loop. Made by `connectTcp` and `listenTcp`; holds no native memory of its own.
 *
 * Nothing is registered with epoll until the first interest is set. A socket that fails while no interest is set tells its
 * owner once through `onBroken` and then stays silent until it is closed.
 */
import { AmbitError } from '../core/errors.ts';
import type { SocketAddress } from '../core/ip.ts';
import type { Arena } from './arena.ts';
import { type ByteChannel, type ChannelOwner, NO_OWNER, READABLE, WOULD_BLOCK, WRITABLE } from './byte-channel.ts';
import type { DescriptorHandler, EventLoop } from './loop.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from './sys/epoll.ts';
import { failedResult, systemCallError } from './sys/errno.ts';
import { SHUT_WR, SO_ERROR, SO_ORIGINAL_DST, SOL_IP, SOL_IPV6, SOL_SOCKET, sys } from './sys/libc.ts';
import { decodeAddress, prepareScratch, scratchAddress, scratchLength } from './sys/socket-address.ts';
import { closeFd, lingerZero, readOption } from './sys/socket-options.ts';

/** Registered for EPOLLOUT by the connect attempt, and the owner has not said yet what it wants. */
const INHERITED = -1;

export class TcpSocket implements ByteChannel, DescriptorHandler {
  owner: ChannelOwner = NO_OWNER;
  readonly #loop: EventLoop;
  #fd: number;
  #interest: number;
  #registered: boolean;
  /** The last read emptied the socket and no event has come since: the next read need not ask the kernel. */
  #dry = false;
  /** Error that was told through `onBroken` and is thereby gone in the kernel; a later read tells it again. 0 = none. */
  #brokenBy = 0;
  #remote: SocketAddress | undefined;

  /**
   * For `reactor/`: takes over a connected descriptor. `connecting`: the loop watches it for EPOLLOUT already; `connected` a
   * moment ago, so that the peer has hardly sent anything.
   */
  constructor(
    loop: EventLoop,
    fd: number,
    remote: SocketAddress | undefined,
    origin: 'accepted' | 'connected' | 'connecting',
  ) {
    this.#loop = loop;
    this.#fd = fd;
    this.#remote = remote;
    this.#registered = origin === 'connecting';
    this.#interest = this.#registered ? INHERITED : 0;
    this.#dry = origin === 'connected';
  }

  /** -1 after the end. */
  get fd(): number {
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** The peer. Throws SYSTEM_CALL when it was not known at the start and the connection is gone. */
  get remoteAddress(): SocketAddress {
    this.#remote ??= this.#address('getpeername');
    return this.#remote;
  }

  /** Our end; a system call each time. */
  get localAddress(): SocketAddress {
    return this.#address('getsockname');
  }

  /** Where the client wanted to go before netfilter redirected it here; undefined when nothing was redirected. */
  originalDestination(): SocketAddress | undefined {
    const fd = this.#openFd();
    for (const level of [SOL_IP, SOL_IPV6]) {
      prepareScratch();
      if (sys.getsockopt(fd, level, SO_ORIGINAL_DST, scratchAddress, scratchLength) === 0) return decodeAddress();
    }
    return undefined;
  }

  read(arena: Arena, offset: number, length: number): number {
    const address = arena.addressOf(offset, length);
    if (this.#fd < 0 || length < 1) throw this.#misuse();
    if (this.#dry && (this.#interest & READABLE) !== 0) return WOULD_BLOCK;
    const result = sys.read(this.#fd, address, length);
    if (result > 0) {
      this.#dry = result < length;
      return result;
    }
    if (result === 0) return this.#brokenBy === 0 ? 0 : -this.#brokenBy;
    const failure = failedResult();
    this.#dry = failure === WOULD_BLOCK;
    return failure;
  }

  write(arena: Arena, offset: number, length: number): number {
    const address = arena.addressOf(offset, length);
    if (this.#fd < 0) throw this.#misuse();
    const result = sys.write(this.#fd, address, length);
    return result >= 0 ? result : failedResult();
  }

  setInterest(interest: number): void {
    if (interest === this.#interest) return;
    const fd = this.#openFd();
    this.#interest = interest;
    if (this.#registered) {
      this.#dry = false;
      this.#loop.modify(fd, interest);
    } else if (interest !== 0) {
      this.#loop.register(fd, this, interest);
      this.#registered = true;
    }
  }

  /** For `reactor/`: ends the interest inherited from connecting when the owner did not set one. */
  settleInterest(): void {
    if (this.#interest === INHERITED && this.#fd >= 0) this.setInterest(0);
  }

  onEvents(mask: number): void {
    this.#dry = false;
    const interest = this.#interest;
    if (interest <= 0) {
      if ((mask & (EPOLLERR | EPOLLHUP)) !== 0) this.#failSilently(mask);
      return;
    }
    if ((interest & WRITABLE) !== 0 && (mask & (EPOLLOUT | EPOLLERR | EPOLLHUP)) !== 0) this.owner.onWritable();
    if ((this.#interest & READABLE) !== 0 && this.#fd >= 0 && (mask & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0) {
      this.owner.onReadable();
    }
  }

  shutdownWrite(): void {
    if (this.#fd >= 0) sys.shutdown(this.#fd, SHUT_WR);
  }

  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#interest = 0;
    if (this.#registered) this.#loop.unregister(fd, true);
    this.#registered = false;
    this.owner = NO_OWNER;
    closeFd(fd);
  }

  abort(): void {
    if (this.#fd >= 0) lingerZero(this.#fd);
    this.close();
  }

  /** Gives the descriptor away (to another process, to Node); this object is closed afterwards. */
  detach(): number {
    const fd = this.#openFd();
    if (this.#registered) this.#loop.unregister(fd, false);
    this.#registered = false;
    this.#fd = -1;
    this.#interest = 0;
    this.owner = NO_OWNER;
    return fd;
  }

  /** Takes the socket out of epoll, because error and hang-up cannot be masked and would come every turn. */
  #failSilently(mask: number): void {
    this.#loop.unregister(this.#fd, false);
    this.#registered = false;
    this.#interest = 0;
    if ((mask & EPOLLERR) === 0) return;
    this.#brokenBy = readOption(this.#fd, SOL_SOCKET, SO_ERROR) ?? 0;
    this.owner.onBroken(this.#brokenBy);
  }

  #address(call: 'getpeername' | 'getsockname'): SocketAddress {
    const fd = this.#openFd();
    prepareScratch();
    if (sys[call](fd, scratchAddress, scratchLength) !== 0) throw systemCallError(call, `descriptor ${fd}`);
    const address = decodeAddress();
    if (address === undefined) throw new AmbitError('USAGE', `descriptor ${fd} is not an IP socket`);
    return address;
  }

  #openFd(): number {
    if (this.#fd < 0) throw this.#misuse();
    return this.#fd;
  }

  #misuse(): AmbitError {
    return this.#fd < 0
      ? new AmbitError('CLOSED', 'socket used after it was closed')
      : new AmbitError('USAGE', 'a read needs room for at least one byte');
  }
}
