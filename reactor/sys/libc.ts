/**
 * The system calls the reactor uses, as bound C functions, and the constants of Linux they need (same on x86-64 and arm64).
 * Addresses come from `NativeBlock` or `Arena.addressOf`. Results are those of C: -1 means look at `errno()`.
 */
import { native } from './ffi.ts';

type Fd = number;
type Address = number;

export const sys = {
  socket: native<(family: number, type: number, protocol: number) => Fd>('int socket(int, int, int)'),
  bind: native<(fd: Fd, address: Address, length: number) => number>('int bind(int, uintptr_t, uint)'),
  listen: native<(fd: Fd, backlog: number) => number>('int listen(int, int)'),
  accept4: native<(fd: Fd, address: Address, length: Address, flags: number) => Fd>(
    'int accept4(int, uintptr_t, uintptr_t, int)',
  ),
  connect: native<(fd: Fd, address: Address, length: number) => number>('int connect(int, uintptr_t, uint)'),
  getsockname: native<(fd: Fd, address: Address, length: Address) => number>(
    'int getsockname(int, uintptr_t, uintptr_t)',
  ),
  getpeername: native<(fd: Fd, address: Address, length: Address) => number>(
    'int getpeername(int, uintptr_t, uintptr_t)',
  ),
  setsockopt: native<(fd: Fd, level: number, option: number, address: Address, length: number) => number>(
    'int setsockopt(int, int, int, uintptr_t, uint)',
  ),
  getsockopt: native<(fd: Fd, level: number, option: number, address: Address, length: Address) => number>(
    'int getsockopt(int, int, int, uintptr_t, uintptr_t)',
  ),
  shutdown: native<(fd: Fd, how: number) => number>('int shutdown(int, int)'),
  read: native<(fd: Fd, address: Address, length: number) => number>('int read(int, uintptr_t, size_t)'),
  write: native<(fd: Fd, address: Address, length: number) => number>('int write(int, uintptr_t, size_t)'),
  close: native<(fd: Fd) => number>('int close(int)'),
  epoll_create1: native<(flags: number) => Fd>('int epoll_create1(int)'),
  epoll_ctl: native<(epoll: Fd, operation: number, fd: Fd, event: Address) => number>(
    'int epoll_ctl(int, int, int, uintptr_t)',
  ),
  epoll_wait: native<(epoll: Fd, events: Address, count: number, timeoutMs: number) => number>(
    'int epoll_wait(int, uintptr_t, int, int)',
  ),
  eventfd: native<(initial: number, flags: number) => Fd>('int eventfd(uint, int)'),
  setns: native<(fd: Fd, type: number) => number>('int setns(int, int)'),
  pipe2: native<(fds: Address, flags: number) => number>('int pipe2(uintptr_t, int)'),
  splice: native<(from: Fd, fromOffset: Address, to: Fd, toOffset: Address, length: number, flags: number) => number>(
    'int splice(int, uintptr_t, int, uintptr_t, size_t, uint)',
  ),
  sendmsg: native<(fd: Fd, message: Address, flags: number) => number>('int sendmsg(int, uintptr_t, int)'),
  recvmsg: native<(fd: Fd, message: Address, flags: number) => number>('int recvmsg(int, uintptr_t, int)'),
  ioctl: native<(fd: Fd, request: number, argument: Address) => number>('int ioctl(int, ulong, uintptr_t)'),
  malloc_trim: native<(keep: number) => number>('int malloc_trim(size_t)'),
  fcntl: native<(fd: Fd, command: number, argument: number) => number>('int fcntl(int, int, int)'),
};

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
/** SOCK_NONBLOCK | SOCK_CLOEXEC; equal to O_NONBLOCK | O_CLOEXEC and EFD_NONBLOCK | EFD_CLOEXEC. */
export const NONBLOCK_CLOEXEC = 0o2004000;
export const CLOEXEC = 0o2000000;
export const CLONE_NEWNET = 0x40000000;

export const SOL_IP = 0;
export const SOL_SOCKET = 1;
export const SOL_TCP = 6;
export const SOL_IPV6 = 41;

export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_PEERCRED = 17;
export const SO_MARK = 36;
export const SO_ACCEPTCONN = 30;
export const IP_FREEBIND = 15;
export const IP_TRANSPARENT = 19;
export const IP_BIND_ADDRESS_NO_PORT = 24;
export const IPV6_V6ONLY = 26;
export const IPV6_TRANSPARENT = 75;
export const IPV6_FREEBIND = 78;
/** SO_ORIGINAL_DST of netfilter; the same number at level SOL_IPV6. */
export const SO_ORIGINAL_DST = 80;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_INFO = 11;
/** State of a connection in `struct tcp_info`. */
export const TCP_ESTABLISHED = 1;

export const SHUT_WR = 1;
/** Bytes the peer has not acknowledged (tcp(7)). */
export const SIOCOUTQ = 0x5411;
export const F_SETPIPE_SZ = 1031;
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const MSG_CTRUNC = 8;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const SCM_RIGHTS = 1;
