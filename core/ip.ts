/**
 * IP addresses as canonical text (branded), their bytes, and CIDR blocks.
 *
 * Canonical means: IPv4 dotted decimal without leading zeros; IPv6 per RFC 5952; an IPv4-mapped IPv6 address is its
 * IPv4 address. Comparing two `IpAddress` values with `===` compares the addresses.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { AmbitError } from './errors.ts';

declare const ipBrand: unique symbol;
export type IpAddress = string & { readonly [ipBrand]: true };

/** An address and a TCP port (0-65535). */
export interface SocketAddress {
  readonly ip: IpAddress;
  readonly port: number;
}

export interface CidrBlock {
  /** 4 or 16 bytes, host bits zero. */
  readonly bytes: Uint8Array;
  /** Prefix length in bits, 0-32 or 0-128. */
  readonly prefixLength: number;
}

/** The canonical form of `text`, or undefined when it is not an IP address (zones and surrounding blanks are refused). */
export function parseIp(text: string): IpAddress | undefined {
  if (isIPv4(text)) return text as IpAddress;
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const bytes = parseIpv6(text);
  return bytes === undefined ? undefined : ipFromBytes(bytes);
}

/** As `parseIp`, throwing `DECODE` for text that must be an address. */
export function getIp(text: string): IpAddress {
  const ip = parseIp(text);
  if (ip === undefined) throw new AmbitError('DECODE', `not an IP address: ${JSON.stringify(text.slice(0, 64))}`);
  return ip;
}

/** Canonical address of 4 or 16 network-order bytes, or undefined for any other length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress | undefined {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress;
  if (bytes.length !== 16) return undefined;
  if (isV4Mapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}` as IpAddress;
  return formatIpv6(bytes) as IpAddress;
}

/** 4 or 16 bytes in network order. */
export function ipToBytes(ip: IpAddress): Uint8Array {
  if (!ip.includes(':')) {
    const bytes = new Uint8Array(4);
    let value = 0;
    let index = 0;
    for (let i = 0; i < ip.length; i++) {
      const code = ip.charCodeAt(i);
      if (code === 46) {
        bytes[index++] = value;
        value = 0;
      } else value = value * 10 + (code - 48);
    }
    bytes[index] = value;
    return bytes;
  }
  const bytes = parseIpv6(ip);
  if (bytes === undefined) throw new AmbitError('DECODE', 'not an IP address');
  return bytes;
}

export function isIpv6Address(ip: IpAddress): boolean {
  return ip.includes(':');
}

export function isLoopback(ip: IpAddress): boolean {
  return ip.startsWith('127.') || ip === '::1';
}

/** `ip:port`, IPv6 in brackets (RFC 3986 section 3.2.2). */
export function formatSocketAddress(address: SocketAddress): string {
  return address.ip.includes(':') ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/**
 * Strict `host:port` split of a CONNECT authority (RFC 9110 section 7.1: no user information, no blanks, port required).
 * The host is an IP address or a DNS name of at most 253 characters in lower case. Undefined when it is anything else.
 */
export function parseAuthority(
  text: string,
): { kind: 'address'; address: SocketAddress } | { kind: 'name'; host: string; port: number } | undefined {
  if (text.length > 262) return undefined;
  const colon = text.lastIndexOf(':');
  if (colon <= 0) return undefined;
  const portText = text.slice(colon + 1);
  if (!/^[1-9][0-9]{0,4}$/.test(portText)) return undefined;
  const port = Number(portText);
  if (port > 65535) return undefined;
  let host = text.slice(0, colon);
  if (host.startsWith('[')) {
    if (!host.endsWith(']')) return undefined;
    host = host.slice(1, -1);
    if (!host.includes(':')) return undefined;
    const ip = parseIp(host);
    return ip === undefined ? undefined : { kind: 'address', address: { ip, port } };
  }
  if (isIPv4(host)) return { kind: 'address', address: { ip: host as IpAddress, port } };
  if (host.length > 253 || /^[0-9.]+$/.test(host)) return undefined;
  const lower = host.toLowerCase();
  if (!/^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)*$/.test(lower)) return undefined;
  return { kind: 'name', host: lower, port };
}

/** `a.b.c.d/n`, `x::y/n` or a bare address (full length). Undefined when it is neither or the length is out of range. */
export function parseCidr(text: string): CidrBlock | undefined {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === undefined) return undefined;
  const bytes = ipToBytes(ip);
  if (slash < 0) return { bytes, prefixLength: bytes.length * 8 };
  const lengthText = text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return undefined;
  return cidrFromBytes(bytes, Number(lengthText));
}

/** Block of 4 or 16 bytes and a length in bits, host bits cleared. Undefined when the length does not fit. */
export function cidrFromBytes(bytes: Uint8Array, prefixLength: number): CidrBlock | undefined {
  if ((bytes.length !== 4 && bytes.length !== 16) || prefixLength < 0 || prefixLength > bytes.length * 8)
    return undefined;
  const masked = Uint8Array.from(bytes);
  for (let i = 0; i < masked.length; i++) {
    const keep = Math.min(8, Math.max(0, prefixLength - i * 8));
    masked[i] = (masked[i] ?? 0) & ((0xff << (8 - keep)) & 0xff);
  }
  return { bytes: masked, prefixLength };
}

/** True when `address` (4 or 16 bytes) lies in the block; families never match each other. */
export function cidrContains(block: CidrBlock, address: Uint8Array): boolean {
  if (block.bytes.length !== address.length) return false;
  const whole = block.prefixLength >> 3;
  for (let i = 0; i < whole; i++) if (block.bytes[i] !== address[i]) return false;
  const rest = block.prefixLength & 7;
  return rest === 0 || (((block.bytes[whole] ?? 0) ^ (address[whole] ?? 0)) & (0xff << (8 - rest)) & 0xff) === 0;
}

function isV4Mapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

function parseIpv6(text: string): Uint8Array | undefined {
  let source = text;
  const lastColon = source.lastIndexOf(':');
  const tail = source.slice(lastColon + 1);
  if (tail.includes('.')) {
    const v4 = tail.split('.').map(Number);
    const [a = 0, b = 0, c = 0, d = 0] = v4;
    source = `${source.slice(0, lastColon + 1)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const halves = source.split('::');
  if (halves.length > 2) return undefined;
  const head = halves[0] ? halves[0].split(':') : [];
  const rest = halves.length === 2 && halves[1] ? halves[1].split(':') : [];
  const gap = halves.length === 2 ? 8 - head.length - rest.length : 0;
  if (gap < 0 || head.length + rest.length + gap !== 8) return undefined;
  const groups = [...head, ...new Array<string>(gap).fill('0'), ...rest];
  const bytes = new Uint8Array(16);
  groups.forEach((group, index) => {
    const value = Number.parseInt(group, 16);
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value & 0xff;
  });
  return bytes;
}

/** RFC 5952: lower case, no leading zeros, the longest run (first of equals, at least two groups) compressed. */
function formatIpv6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}
