/** Does a route lead to an address from the network namespace the calling thread is in? Sends nothing. */
import type { IpAddress } from '../core/ip.ts';
import { CLOEXEC, SOCK_DGRAM, sys } from './sys/libc.ts';
import { encodeAddress, familyOf, scratchAddress } from './sys/socket-address.ts';
import { closeFd } from './sys/socket-options.ts';

/** Any: a datagram socket only looks the route up. */
const PORT = 9;

/** False also where the address family does not exist. */
export function hasRoute(ip: IpAddress): boolean {
  const family = familyOf(ip);
  const fd = sys.socket(family, SOCK_DGRAM | CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    return sys.connect(fd, scratchAddress, encodeAddress(ip, PORT, family)) === 0;
  } finally {
    closeFd(fd);
  }
}
