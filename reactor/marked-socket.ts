/** TCP sockets of Node's own loop that carry a packet mark from their first packet on, which `net.connect` cannot do. */
import { Socket } from 'node:net';
import { type IpAddress, isIpv6Address } from '../core/ip.ts';
import { systemCallError } from './sys/errno.ts';
import { AF_INET, AF_INET6, NONBLOCK_CLOEXEC, SO_MARK, SOCK_STREAM, SOL_SOCKET, sys } from './sys/libc.ts';
import { closeFd, setOption } from './sys/socket-options.ts';

/** Starts a connection; the caller handles `connect`, `error` and `close`. Throws SYSTEM_CALL when there is no CAP_NET_ADMIN. */
export function connectMarked(ip: IpAddress, port: number, mark: number): Socket {
  const fd = sys.socket(isIpv6Address(ip) ? AF_INET6 : AF_INET, SOCK_STREAM | NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw systemCallError('socket', `to connect to ${ip}`);
  try {
    setOption(fd, SOL_SOCKET, SO_MARK, mark, 'SO_MARK');
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const adopted = { fd, readable: true, writable: true, allowHalfOpen: true, manualStart: true };
  return new Socket(adopted).connect({ host: ip, port, autoSelectFamily: false });
}
