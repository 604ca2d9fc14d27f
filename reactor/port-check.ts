/**
 * Is a TCP port taken in the network namespace the calling thread is in? Answered by trying to bind it, which is
 * thousands of times cheaper than reading the kernel's list of sockets. Sockets in TIME_WAIT count as well.
 */

import { getIp } from '../core/ip.ts';
import { EAFNOSUPPORT, errno } from './sys/errno.ts';
import { AF_INET, AF_INET6, CLOEXEC, IPV6_V6ONLY, SOCK_STREAM, SOL_IPV6, sys } from './sys/libc.ts';
import { encodeAddress, scratchAddress } from './sys/socket-address.ts';
import { closeFd, setOption } from './sys/socket-options.ts';

const ANY_V4 = getIp('0.0.0.0');
const ANY_V6 = getIp('::');

/** False only when the port is free on every address of both families. */
export function mayBeTaken(port: number): boolean {
  const fd = sys.socket(AF_INET6, SOCK_STREAM | CLOEXEC, 0);
  if (fd < 0) return errno() !== EAFNOSUPPORT || !binds(AF_INET, port);
  closeFd(fd);
  return !binds(AF_INET6, port);
}

function binds(family: number, port: number): boolean {
  const fd = sys.socket(family, SOCK_STREAM | CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    if (family === AF_INET6) setOption(fd, SOL_IPV6, IPV6_V6ONLY, 0, 'IPV6_V6ONLY');
    const length = encodeAddress(family === AF_INET6 ? ANY_V6 : ANY_V4, port, family);
    return sys.bind(fd, scratchAddress, length) === 0;
  } finally {
    closeFd(fd);
  }
}
