/**
 * Virtual addresses for ServiceEntry hosts that have none, so that a connection to one of several hosts on the same
 * port can be told apart by its destination. Pure: the leader writes what comes out to `.status.addresses`.
 *
 *   240.240.0.0/16   one address per host, reserved space (RFC 1112 section 4): nothing real is hidden by it
 *   2001:2::/48      its twin, benchmarking space (RFC 5180)
 *
 * Stable: an address that stands in the status stays. A new one is found from a hash of the host's identity, so that a
 * host which is deleted and comes back gets the same address again, and its old address is the last to go to others.
 * When two entries hold the same address the older entry keeps it.
 */
import { type IpAddress, ipFromBytes, ipToBytes, parseIp } from '../../core/ip.ts';

/** What allocation reads of a ServiceEntry. */
export interface AddressClaimant {
  /** `<namespace>/<name>`. */
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly createdMs: number;
  /** Hosts that get an address, in the order of the object; none when the entry wants no automatic addresses. */
  readonly hosts: readonly string[];
  /** `.status.addresses` as it stands. */
  readonly current: readonly HostAddress[];
}

export interface HostAddress {
  readonly host: string;
  readonly value: string;
}

export interface AddressAllocation {
  /** What `.status.addresses` must become, of the entries where it differs, by name. */
  readonly writes: ReadonlyMap<string, readonly HostAddress[]>;
  /** Hosts that got nothing because the pool is full: `<namespace>/<name> <host>`. */
  readonly exhausted: readonly string[];
}

/** Slots of the pool: 240.240.0.1 to 240.240.255.254. */
export const ADDRESS_POOL_SIZE = 65_534;

/**
 * @param claimants every ServiceEntry of the cluster
 * @param reserved addresses that must not be given out: those that objects state themselves, those freed a moment ago
 */
export function allocateAddresses(
  claimants: Iterable<AddressClaimant>,
  reserved: ReadonlySet<IpAddress> = new Set(),
): AddressAllocation {
  const byAge = [...claimants].sort(
    (a, b) => compare(a.createdMs, b.createdMs) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
  const taken = new Uint8Array(ADDRESS_POOL_SIZE + 1);
  for (const ip of reserved) {
    const slot = slotOf(ip);
    if (slot !== undefined) taken[slot] = 1;
  }
  const kept = new Map<AddressClaimant, Map<string, number>>();
  for (const claimant of byAge) kept.set(claimant, keep(claimant, taken));
  const writes = new Map<string, readonly HostAddress[]>();
  const exhausted: string[] = [];
  for (const claimant of byAge) {
    const slots = kept.get(claimant) ?? new Map<string, number>();
    const wanted: HostAddress[] = [];
    for (const host of claimant.hosts) {
      const slot = slots.get(host) ?? findSlot(`${claimant.name} ${host}`, taken);
      if (slot === undefined) {
        exhausted.push(`${claimant.name} ${host}`);
        continue;
      }
      taken[slot] = 1;
      wanted.push(...addressesOf(slot).map((value) => ({ host, value })));
    }
    if (!sameAddresses(wanted, claimant.current)) writes.set(claimant.name, wanted);
  }
  return { writes, exhausted };
}

/** Slots of the status that the entry may keep; they are taken from now on. */
function keep(claimant: AddressClaimant, taken: Uint8Array): Map<string, number> {
  const slots = new Map<string, number>();
  for (const { host, value } of claimant.current) {
    // The IPv4 address counts: its twin follows from it.
    const slot = value.includes(':') ? undefined : slotOf(value);
    if (slot === undefined || slots.has(host) || !claimant.hosts.includes(host) || taken[slot] === 1) continue;
    taken[slot] = 1;
    slots.set(host, slot);
  }
  return slots;
}

/** From the slot of the hash upwards, round to the beginning. Undefined when all are taken. */
function findSlot(identity: string, taken: Uint8Array): number | undefined {
  const start = hashOf(identity) % ADDRESS_POOL_SIZE;
  for (let step = 0; step < ADDRESS_POOL_SIZE; step++) {
    const slot = ((start + step) % ADDRESS_POOL_SIZE) + 1;
    if (taken[slot] === 0) return slot;
  }
  return undefined;
}

function addressesOf(slot: number): string[] {
  const high = slot >> 8;
  const low = slot & 0xff;
  const v6 = ipFromBytes(Uint8Array.of(...V6_PREFIX, high, low));
  return [`240.240.${high}.${low}`, ...(v6 === undefined ? [] : [v6])];
}

const V6_PREFIX = [0x20, 0x01, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/** The slot an address of either pool belongs to; undefined for any other text. */
function slotOf(text: string): number | undefined {
  const ip = parseIp(text);
  if (ip === undefined) return undefined;
  const bytes = ipToBytes(ip);
  const prefix = bytes.length === 4 ? [240, 240] : V6_PREFIX;
  if (!prefix.every((byte, at) => bytes[at] === byte)) return undefined;
  const slot = (bytes.at(-2) ?? 0) * 256 + (bytes.at(-1) ?? 0);
  return slot >= 1 && slot <= ADDRESS_POOL_SIZE ? slot : undefined;
}

/** FNV-1a, 32 bits: spreads names, protects nothing. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash ^= text.charCodeAt(index);
    hash = Math.imul(hash, 0x01000193);
  }
  return hash >>> 0;
}

function sameAddresses(a: readonly HostAddress[], b: readonly HostAddress[]): boolean {
  return a.length === b.length && a.every(({ host, value }, at) => b[at]?.host === host && b[at]?.value === value);
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
