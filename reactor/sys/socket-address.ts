/**
 * `sockaddr_in` and `sockaddr_in6` (ip(7), ipv6(7)) to and from `SocketAddress`, through one scratch block per thread.
 * The scratch is valid until the next call of this file: encode, call the kernel, decode, all in one go.
 */
import { AmbitError } from '../../core/errors.ts';
import { type IpAddress, ipFromBytes, ipToBytes, isIpv6Address, type SocketAddress } from '../../core/ip.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import { allocateBlock } from './memory.ts';

const CAPACITY = 128;
const scratch = allocateBlock(CAPACITY + 8);
const lengthOffset = CAPACITY;

/** Address of the scratch `sockaddr`. */
export const scratchAddress = scratch.address;
/** Address of the scratch `socklen_t`; `prepareScratch` sets it to the capacity. */
export const scratchLength = scratch.address + lengthOffset;

/** Makes the scratch ready to receive an address. */
export function prepareScratch(): void {
  scratch.bytes.writeUInt16LE(0, 0);
  scratch.bytes.writeUInt32LE(CAPACITY, lengthOffset);
}

/** Writes an address for `family` (IPv4 addresses become v4-mapped under AF_INET6) and returns its length in bytes. */
export function encodeAddress(ip: IpAddress, port: number, family: number): number {
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new AmbitError('USAGE', `port ${port}`);
  const bytes = scratch.bytes;
  const address = ipToBytes(ip);
  bytes.fill(0, 0, 28);
  bytes.writeUInt16LE(family, 0);
  bytes.writeUInt16BE(port, 2);
  if (family === AF_INET) {
    if (address.length !== 4) throw new AmbitError('USAGE', `${ip} is not an IPv4 address`);
    bytes.set(address, 4);
    return 16;
  }
  if (address.length === 4) {
    bytes.writeUInt16BE(0xffff, 18);
    bytes.set(address, 20);
  } else bytes.set(address, 8);
  return 28;
}

/** The address the kernel wrote, v4-mapped ones as IPv4; undefined when it is of another family. */
export function decodeAddress(): SocketAddress | undefined {
  const bytes = scratch.bytes;
  const family = bytes.readUInt16LE(0);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const ip = ipFromBytes(family === AF_INET ? bytes.subarray(4, 8) : bytes.subarray(8, 24));
  return ip === undefined ? undefined : { ip, port: bytes.readUInt16BE(2) };
}

export function familyOf(ip: IpAddress): number {
  return isIpv6Address(ip) ? AF_INET6 : AF_INET;
}
