/**
 * Opening TCP connections: in a given network namespace, from a given (also foreign) source address, with a mark.
 * Results always come from a later turn, never from inside `connectTcp`; each attempt ends in exactly one callback unless
 * it is cancelled.
 */
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { formatSocketAddress, type IpAddress, isIpv6Address, type SocketAddress } from '../core/ip.ts';
import type { DescriptorHandler, EventLoop, Timer, TurnTask } from './loop.ts';
import type { NetworkNamespace } from './netns.ts';
import { EPOLLOUT } from './sys/epoll.ts';
import { EINPROGRESS, errno, errnoName, systemCallError } from './sys/errno.ts';
import {
  IP_BIND_ADDRESS_NO_PORT,
  IP_TRANSPARENT,
  IPV6_TRANSPARENT,
  NONBLOCK_CLOEXEC,
  SO_ERROR,
  SO_MARK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_TCP,
  sys,
  TCP_ESTABLISHED,
  TCP_INFO,
  TCP_NODELAY,
} from './sys/libc.ts';
import { encodeAddress, familyOf, scratchAddress } from './sys/socket-address.ts';
import { closeFd, readOption, setOption } from './sys/socket-options.ts';
import { enableKeepAlive } from './tcp-keepalive.ts';
import { TcpSocket } from './tcp-socket.ts';

const DEFAULT_TIMEOUT_MS = 10_000;

export interface ConnectOptions {
  readonly to: SocketAddress;
  /** Source address, foreign ones included (IP_TRANSPARENT); not bound when equal to `to.ip`. */
  readonly from?: IpAddress;
  /** SO_MARK of its packets. */
  readonly mark?: number;
  readonly netns?: NetworkNamespace;
  /** Default 10 s. */
  readonly timeoutMs?: number;
  /** Probe an idle peer: 180 s, 180 s, 9 times. */
  readonly keepAlive?: boolean;
}

export interface ConnectHandler {
  /** The socket is the handler's now; it sets owner and interest. */
  onConnected(socket: TcpSocket): void;
  /** CONNECT_FAILED with errno, or CONNECT_TIMEOUT. */
  onConnectFailed(error: AmbitError): void;
}

export interface ConnectAttempt {
  /** No callback follows. Idempotent. */
  cancel(): void;
}

class Attempt implements ConnectAttempt, DescriptorHandler, TurnTask {
  readonly #loop: EventLoop;
  readonly #to: SocketAddress;
  readonly #handler: ConnectHandler;
  #fd = -1;
  /** The loop watches for the answer; not when it came at once, as on one machine. */
  #registered = false;
  #timer: Timer | undefined = undefined;
  /** Failure found while starting; told in the next turn. */
  #failure: AmbitError | undefined = undefined;
  #ended = false;

  constructor(loop: EventLoop, options: ConnectOptions, handler: ConnectHandler) {
    this.#loop = loop;
    this.#to = options.to;
    this.#handler = handler;
    try {
      this.#fd =
        options.netns === undefined ? startConnecting(options) : options.netns.run(() => startConnecting(options));
      if (isConnected(this.#fd)) loop.atNextTurn(this);
      else {
        loop.register(this.#fd, this, EPOLLOUT);
        this.#registered = true;
        this.#timer = loop.setTimer(options.timeoutMs ?? DEFAULT_TIMEOUT_MS, () => this.#onTimeout());
      }
    } catch (error) {
      const known = toAmbitError(error, 'CONNECT_FAILED');
      if (known.code === 'USAGE' || known.code === 'CLOSED') {
        this.cancel();
        throw known;
      }
      this.#failure = this.#connectFailed(known.errno ?? 0, known);
      loop.atNextTurn(this);
    }
  }

  cancel(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer?.cancel();
    this.#release();
  }

  onEvents(): void {
    const failed = readOption(this.#fd, SOL_SOCKET, SO_ERROR) ?? errno();
    if (failed !== 0) {
      this.#fail(this.#connectFailed(failed));
      return;
    }
    this.#succeed();
  }

  runAtTurnEnd(): void {
    if (this.#failure !== undefined) this.#fail(this.#failure);
    else if (!this.#ended) this.#succeed();
  }

  #succeed(): void {
    this.#ended = true;
    this.#timer?.cancel();
    const socket = new TcpSocket(this.#loop, this.#fd, this.#to, this.#registered ? 'connecting' : 'connected');
    if (this.#registered) this.#loop.replaceHandler(this.#fd, socket);
    this.#handler.onConnected(socket);
    socket.settleInterest();
  }

  #onTimeout(): void {
    this.#fail(new AmbitError('CONNECT_TIMEOUT', `no answer from ${formatSocketAddress(this.#to)}`));
  }

  #fail(error: AmbitError): void {
    if (this.#ended) return;
    this.cancel();
    this.#handler.onConnectFailed(error);
  }

  #connectFailed(number: number, cause?: AmbitError): AmbitError {
    const reason = cause === undefined ? errnoName(number) : cause.message;
    return new AmbitError('CONNECT_FAILED', `${formatSocketAddress(this.#to)}: ${reason}`, { cause, errno: number });
  }

  #release(): void {
    if (this.#fd < 0) return;
    if (this.#registered) this.#loop.unregister(this.#fd, true);
    closeFd(this.#fd);
    this.#fd = -1;
  }
}

/** Starts to connect. The result comes through `handler` in a later turn. Throws USAGE or CLOSED for wrong use only. */
export function connectTcp(loop: EventLoop, options: ConnectOptions, handler: ConnectHandler): ConnectAttempt {
  return new Attempt(loop, options, handler);
}

/** A descriptor on its way to be connected. Throws SYSTEM_CALL. */
function startConnecting(options: ConnectOptions): number {
  const { to, from, mark } = options;
  const family = familyOf(to.ip);
  const fd = sys.socket(family, SOCK_STREAM | NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw systemCallError('socket', `for ${to.ip}`);
  try {
    setOption(fd, SOL_TCP, TCP_NODELAY, 1, 'TCP_NODELAY');
    if (options.keepAlive === true) enableKeepAlive(fd);
    if (mark !== undefined) setOption(fd, SOL_SOCKET, SO_MARK, mark, 'SO_MARK');
    if (from !== undefined && from !== to.ip) bindForeign(fd, from, family);
    const length = encodeAddress(to.ip, to.port, family);
    if (sys.connect(fd, scratchAddress, length) !== 0 && errno() !== EINPROGRESS) {
      throw systemCallError('connect', formatSocketAddress(to));
    }
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** True when the handshake is over already: between sockets of one machine it is when `connect` returns. */
function isConnected(fd: number): boolean {
  // The first byte of struct tcp_info.
  return ((readOption(fd, SOL_TCP, TCP_INFO) ?? 0) & 0xff) === TCP_ESTABLISHED;
}

/** Binds to an address that need not be ours (IP_TRANSPARENT implies IP_FREEBIND); the port is chosen when connecting, per destination. */
function bindForeign(fd: number, from: IpAddress, family: number): void {
  if (isIpv6Address(from)) {
    setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1, 'IPV6_TRANSPARENT');
  } else {
    setOption(fd, SOL_IP, IP_TRANSPARENT, 1, 'IP_TRANSPARENT');
  }
  setOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, 'IP_BIND_ADDRESS_NO_PORT');
  if (familyOf(from) !== family) throw new AmbitError('CONNECT_FAILED', `source ${from} is of another family`);
  const length = encodeAddress(from, 0, family);
  if (sys.bind(fd, scratchAddress, length) !== 0) throw systemCallError('bind', from);
}
