/**
 * The rules of the node itself, as text. Pure. They let kubelet's probes pass the mesh, and nothing else.
 *
 * A probe is a connection of kubelet's user, from this node, to an address of an enrolled pod and a port that one of its
 * probes names: its source becomes 169.254.7.127 (IPv6: fd16:9254:7127:1337:...), which the rules inside the pod let go
 * straight to the application. Anything else the node's processes send to a pod is captured and judged like everything.
 *
 * Nobody else may use that source: a packet that *arrives* at the node with it, from a pod or from another node, is
 * dropped before anything else happens; in a bridge likewise, where pods reach each other past the node's routing. The source is
 * written when a packet leaves, so genuine probes never arrive with it.
 *
 * Why the user and not the control group of kubelet: the kernel lets rules ask for the group of a socket only where a source
 * cannot be written yet; carrying the answer over takes a packet mark, and other network software owns those.
 */
import type { IpAddress } from '../../core/ip.ts';
import { isIpv6Address } from '../../core/ip.ts';
import { PROBE_SOURCE_V4, PROBE_SOURCE_V6 } from './rules.ts';

export const HOST_TABLE = 'ambit-host';

export interface ProbeTarget {
  readonly ip: IpAddress;
  readonly port: number;
  /** Whose address it is; the comment of the set's element. */
  readonly podUid: string;
}

/** Before the source translation of network plugins (priority 100), which would else come first and keep theirs. */
const BEFORE_SOURCE_NAT = 90;
/** Before connection tracking (-200) and everything that others put before it (-300). */
const BEFORE_ALL = -310;

/** The transaction for `nft -f -` that makes the table `inet ambit-host` what it should be, whatever it was. */
export function buildHostRules(targets: Iterable<ProbeTarget>, kubeletUid: number): string {
  const v4 = new Map<string, string>();
  const v6 = new Map<string, string>();
  for (const { ip, port, podUid } of targets) (isIpv6Address(ip) ? v6 : v4).set(`${ip} . ${port}`, podUid);
  const from = `meta l4proto tcp meta skuid ${kubeletUid}`;
  return text([
    ...replaced('inet'),
    `add set inet ${HOST_TABLE} probes-v4 { type ipv4_addr . inet_service; }`,
    `add set inet ${HOST_TABLE} probes-v6 { type ipv6_addr . inet_service; }`,
    ...elements('probes-v4', v4),
    ...elements('probes-v6', v6),
    `add chain inet ${HOST_TABLE} arriving { type filter hook prerouting priority ${BEFORE_ALL}; policy accept; }`,
    ...forgedSources('inet'),
    `add chain inet ${HOST_TABLE} leaving { type nat hook postrouting priority ${BEFORE_SOURCE_NAT}; policy accept; }`,
    `add rule inet ${HOST_TABLE} leaving ${from} ip daddr . tcp dport @probes-v4 counter snat ip to ${PROBE_SOURCE_V4} comment "probe-v4"`,
    `add rule inet ${HOST_TABLE} leaving ${from} ip6 daddr . tcp dport @probes-v6 counter snat ip6 to ${PROBE_SOURCE_V6} comment "probe-v6"`,
  ]);
}

/** As above for the table `bridge ambit-host`; kernels without bridges of that kind refuse it. */
export function buildBridgeRules(): string {
  return text([
    ...replaced('bridge'),
    `add chain bridge ${HOST_TABLE} arriving { type filter hook prerouting priority ${BEFORE_ALL}; policy accept; }`,
    ...forgedSources('bridge'),
  ]);
}

/** Removes a table, also one that does not exist. */
export function removeHostRulesText(family: 'inet' | 'bridge'): string {
  return text([`add table ${family} ${HOST_TABLE}`, `delete table ${family} ${HOST_TABLE}`]);
}

function replaced(family: string): string[] {
  return [
    `add table ${family} ${HOST_TABLE}`,
    `delete table ${family} ${HOST_TABLE}`,
    `add table ${family} ${HOST_TABLE}`,
  ];
}

function forgedSources(family: string): string[] {
  return [
    `add rule ${family} ${HOST_TABLE} arriving ip saddr ${PROBE_SOURCE_V4} counter drop comment "forged-v4"`,
    `add rule ${family} ${HOST_TABLE} arriving ip6 saddr ${PROBE_SOURCE_V6} counter drop comment "forged-v6"`,
  ];
}

function elements(set: string, entries: ReadonlyMap<string, string>): string[] {
  if (entries.size === 0) return [];
  const list = Array.from(entries, ([target, uid]) => `${target} comment "${uid}"`).sort();
  return [`add element inet ${HOST_TABLE} ${set} { ${list.join(', ')} }`];
}

function text(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}
