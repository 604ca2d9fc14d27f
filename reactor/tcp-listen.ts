/**
 * Listening for TCP connections: in a given network namespace, on both families through one socket, shared by workers
 * (SO_REUSEPORT), also for addresses that are not ours (IP_TRANSPARENT). Options set on the listener (no delay, keep-alive,
 * mark) are inherited by accepted sockets, so accepting costs one system call.
 */
import { AmbitError } from '../core/errors.ts';
import { getIp, type IpAddress, type SocketAddress } from '../core/ip.ts';
import type { DescriptorHandler, EventLoop, Timer } from './loop.ts';
import type { NetworkNamespace } from './netns.ts';
import { EPOLLIN } from './sys/epoll.ts';
import { EADDRNOTAVAIL, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno, systemCallError } from './sys/errno.ts';
import {
  AF_INET,
  AF_INET6,
  IP_TRANSPARENT,
  IPV6_TRANSPARENT,
  IPV6_V6ONLY,
  NONBLOCK_CLOEXEC,
  SO_ACCEPTCONN,
  SO_MARK,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_TCP,
  sys,
  TCP_NODELAY,
} from './sys/libc.ts';
import {
  decodeAddress,
  encodeAddress,
  familyOf,
  prepareScratch,
  scratchAddress,
  scratchLength,
} from './sys/socket-address.ts';
import { closeFd, readOption, setOption } from './sys/socket-options.ts';
import { enableKeepAlive } from './tcp-keepalive.ts';
import { TcpSocket } from './tcp-socket.ts';

const DEFAULT_BACKLOG = 4096;
/** Connections taken per event, so that one listener cannot starve the rest of the loop. */
const ACCEPT_BATCH = 64;
/** Pause after running out of descriptors or memory. */
const EXHAUSTED_PAUSE_MS = 100;

export interface ListenOptions {
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** Default: wildcard of both families, IPv4 alone where there is no IPv6. */
  readonly ip?: IpAddress;
  readonly netns?: NetworkNamespace;
  /** SO_MARK of its packets and of those of accepted sockets. */
  readonly mark?: number;
  readonly reusePort?: boolean;
  readonly transparent?: boolean;
  /** Default 4096 (the kernel caps it at net.core.somaxconn). */
  readonly backlog?: number;
  /** Accepted sockets probe an idle peer: 180 s, 180 s, 9 times. */
  readonly keepAlive?: boolean;
}

export interface TcpListener {
  readonly address: SocketAddress;
  /** The listening socket, to be lent to another process (SCM_RIGHTS); it stays this listener's. */
  readonly descriptor: number;
  /** Stops listening; accepted sockets live on. Idempotent. */
  close(): void;
  /** Leaves new connections in the backlog until `resume`. */
  pause(): void;
  resume(): void;
}

class Listener implements TcpListener, DescriptorHandler {
  readonly address: SocketAddress;
  readonly #loop: EventLoop;
  readonly #onAccept: (socket: TcpSocket) => void;
  #fd: number;
  #paused = false;
  #exhausted: Timer | undefined = undefined;

  constructor(loop: EventLoop, fd: number, address: SocketAddress, onAccept: (socket: TcpSocket) => void) {
    this.#loop = loop;
    this.#fd = fd;
    this.address = address;
    this.#onAccept = onAccept;
    loop.register(fd, this, EPOLLIN);
  }

  get descriptor(): number {
    this.#requireOpen();
    return this.#fd;
  }

  onEvents(): void {
    for (let taken = 0; taken < ACCEPT_BATCH; taken++) {
      if (this.#fd < 0 || this.#paused) return;
      prepareScratch();
      const fd = sys.accept4(this.#fd, scratchAddress, scratchLength, NONBLOCK_CLOEXEC);
      if (fd < 0) {
        const number = errno();
        if (number === EMFILE || number === ENFILE || number === ENOMEM || number === ENOBUFS) this.#waitForResources();
        return;
      }
      this.#onAccept(new TcpSocket(this.#loop, fd, decodeAddress(), 'accepted'));
    }
  }

  pause(): void {
    this.#requireOpen();
    this.#paused = true;
    this.#updateInterest();
  }

  resume(): void {
    this.#requireOpen();
    this.#paused = false;
    this.#updateInterest();
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#exhausted?.cancel();
    // Another process may hold the same socket: closing our descriptor does not end the watch then (epoll(7)).
    this.#loop.unregister(this.#fd, false);
    closeFd(this.#fd);
    this.#fd = -1;
  }

  #waitForResources(): void {
    this.#exhausted = this.#loop.setTimer(EXHAUSTED_PAUSE_MS, () => {
      this.#exhausted = undefined;
      this.#updateInterest();
    });
    this.#updateInterest();
  }

  #updateInterest(): void {
    this.#loop.modify(this.#fd, this.#paused || this.#exhausted !== undefined ? 0 : EPOLLIN);
  }

  #requireOpen(): void {
    if (this.#fd < 0) throw new AmbitError('CLOSED', 'listener used after it was closed');
  }
}

/** Listens at once. `onAccept` owns each socket it gets. Throws SYSTEM_CALL (with errno), NETNS. */
export function listenTcp(loop: EventLoop, options: ListenOptions, onAccept: (socket: TcpSocket) => void): TcpListener {
  const open = () => openListener(options);
  const { fd, address } = options.netns === undefined ? open() : options.netns.run(open);
  return new Listener(loop, fd, address, onAccept);
}

/**
 * Goes on with a listening socket that another process opened: connections in its queue are taken as if they had been
 * made here. Owns the descriptor, also when it throws: `USAGE` for one that does not listen for TCP connections.
 */
export function adoptTcpListener(loop: EventLoop, fd: number, onAccept: (socket: TcpSocket) => void): TcpListener {
  try {
    if (readOption(fd, SOL_SOCKET, SO_ACCEPTCONN) !== 1) {
      throw new AmbitError('USAGE', `descriptor ${fd} is no listening socket`);
    }
    return new Listener(loop, fd, addressOf(fd), onAccept);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

interface Listening {
  readonly fd: number;
  readonly address: SocketAddress;
}

function openListener(options: ListenOptions): Listening {
  if (options.ip !== undefined) return listenOn(options, options.ip, familyOf(options.ip));
  try {
    return listenOn(options, getIp('::'), AF_INET6);
  } catch (error) {
    const noIpv6 = error instanceof AmbitError && (error.errno === EAFNOSUPPORT || error.errno === EADDRNOTAVAIL);
    if (!noIpv6) throw error;
    return listenOn(options, getIp('0.0.0.0'), AF_INET);
  }
}

function listenOn(options: ListenOptions, ip: IpAddress, family: number): Listening {
  const fd = sys.socket(family, SOCK_STREAM | NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw systemCallError('socket', `to listen on ${ip}`);
  try {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, 'SO_REUSEADDR');
    setOption(fd, SOL_TCP, TCP_NODELAY, 1, 'TCP_NODELAY');
    if (family === AF_INET6) setOption(fd, SOL_IPV6, IPV6_V6ONLY, options.ip === undefined ? 0 : 1, 'IPV6_V6ONLY');
    if (options.reusePort === true) setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1, 'SO_REUSEPORT');
    if (options.mark !== undefined) setOption(fd, SOL_SOCKET, SO_MARK, options.mark, 'SO_MARK');
    if (options.keepAlive === true) enableKeepAlive(fd);
    if (options.transparent === true) {
      if (family === AF_INET6) setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1, 'IPV6_TRANSPARENT');
      else setOption(fd, SOL_IP, IP_TRANSPARENT, 1, 'IP_TRANSPARENT');
    }
    const length = encodeAddress(ip, options.port, family);
    if (sys.bind(fd, scratchAddress, length) !== 0) throw systemCallError('bind', `${ip} port ${options.port}`);
    if (sys.listen(fd, options.backlog ?? DEFAULT_BACKLOG) !== 0) throw systemCallError('listen', `${ip}`);
    return { fd, address: addressOf(fd) };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

function addressOf(fd: number): SocketAddress {
  prepareScratch();
  if (sys.getsockname(fd, scratchAddress, scratchLength) !== 0)
    throw systemCallError('getsockname', `descriptor ${fd}`);
  const address = decodeAddress();
  if (address === undefined) throw new AmbitError('USAGE', 'the listener has no IP address');
  return address;
}
