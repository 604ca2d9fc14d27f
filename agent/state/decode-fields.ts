/**
 * Checks that decoders of resources share. Each returns the canonical value or throws `AmbitError('DECODE')` naming the
 * field: a resource that says something this version does not understand is refused as a whole, never read as if it
 * said less.
 */
import { AmbitError } from '../../core/errors.ts';
import { type CidrBlock, cidrFromBytes, type IpAddress, ipFromBytes } from '../../core/ip.ts';

/** Longest name, namespace, host name or uid that is accepted, UTF-16 units. */
export const MAX_NAME_LENGTH = 1024;

export function refuse(field: string, problem: string): never {
  throw new AmbitError('DECODE', `${field}: ${problem}`);
}

export function name(field: string, value: string): string {
  if (value === '') return refuse(field, 'is missing');
  return optionalName(field, value);
}

export function optionalName(field: string, value: string): string {
  if (value.length > MAX_NAME_LENGTH) return refuse(field, `is longer than ${MAX_NAME_LENGTH} characters`);
  return value;
}

/** The entry of `table` for a protobuf enumeration value; values the table does not list are refused. */
export function enumeration<Value>(field: string, table: Readonly<Record<number, Value>>, value: number): Value {
  const known = table[value];
  if (known === undefined) return refuse(field, `has the unknown value ${value}`);
  return known;
}

/** A TCP port from 1 to 65535. */
export function port(field: string, value: number): number {
  if (value < 1) return refuse(field, 'is missing');
  return portOrZero(field, value);
}

export function portOrZero(field: string, value: number): number {
  if (value > 65535) return refuse(field, `${value} is not a port`);
  return value;
}

/** An address of 4 or 16 bytes. */
export function address(field: string, bytes: Uint8Array): IpAddress {
  const ip = ipFromBytes(bytes);
  if (ip === undefined) return refuse(field, `has ${bytes.length} bytes, an address has 4 or 16`);
  return ip;
}

/** A block of 4 or 16 bytes and a length in bits. A block of IPv4-mapped IPv6 addresses becomes the IPv4 block. */
export function cidr(field: string, bytes: Uint8Array, prefixLength: number): CidrBlock {
  const mapped = bytes.length === 16 && ipFromBytes(bytes)?.includes(':') === false;
  const block =
    mapped && prefixLength >= 96
      ? cidrFromBytes(bytes.subarray(12), prefixLength - 96)
      : cidrFromBytes(bytes, prefixLength);
  if (block === undefined)
    return refuse(field, `${bytes.length} bytes with prefix length ${prefixLength} are no block`);
  return block;
}
