/**
 * The nftables rules of one pod, as text. Pure: what a pod's annotations ask for goes in, one transaction comes out.
 *
 * Everything lives in the table `inet ambit` of the pod's own network namespace. The transaction replaces the table as a
 * whole, so applying it twice, or over a damaged copy, ends in the same state; hooks stay registered throughout, hence
 * translated connections survive. Each statement stands on its own line; every rule carries its id as comment.
 *
 * Only a connection's first packet (SYN without ACK) is ever redirected: a connection that stood before the rules, and of
 * which conntrack knows nothing, goes on as it was.
 *
 * Packet walks (l. = leaving the pod, a. = arriving):
 * - application -> anything: capture-leaving redirects to 15001, where the agent asks for the original destination.
 * - peer -> pod:15008: passes, the agent listens there. Peer -> any other port: capture-arriving redirects to 15006.
 * - agent -> application with the client's address as source: mark 0x539 leaves untouched over lo; mark-arriving notes
 *   0x111 on the connection; the application's replies get that mark in mark-leaving, and routing table 100 (see
 *   policy-routing.ts) delivers them to the agent although they are addressed to the client.
 * - peer -> pod: a SYN on a flow that conntrack knows already but that was not redirected is dropped in mark-arriving. Such a
 *   flow was begun by a packet that is no SYN, which the application's kernel silently ignores; the SYN that follows would
 *   never be offered for redirection and would reach the application past the agent.
 * - kubelet probes have the source 169.254.7.127 (written by the node, host-rules.ts) and go straight to the application.
 */
import type { TrafficOverrides } from '../../core/enrolment/overrides.ts';
import {
  HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MARK_MASK,
  OUTBOUND_PORT,
  PROXY_MARK,
  SOURCE_PRESERVED_MARK,
} from '../../core/ports.ts';

export const RULES_TABLE = 'ambit';
/** Source addresses the node gives to probes of its own processes (Istio's). */
export const PROBE_SOURCE_V4 = '169.254.7.127';
export const PROBE_SOURCE_V6 = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';

/** `capture`: new connections are redirected. `release`: none are, but those that were redirected keep working. */
export type RulesMode = 'capture' | 'release';

export interface ChainSpec {
  readonly name: 'mark-arriving' | 'mark-leaving' | 'capture-arriving' | 'capture-leaving';
  readonly type: 'filter' | 'route' | 'nat';
  readonly hook: 'prerouting' | 'output';
  readonly priority: number;
}

export interface RuleSpec {
  readonly chain: ChainSpec['name'];
  /** Unique in the ruleset; the rule's comment. */
  readonly id: string;
  readonly text: string;
}

export interface Ruleset {
  readonly chains: readonly ChainSpec[];
  readonly rules: readonly RuleSpec[];
  /** The transaction for `nft -f -`. */
  readonly text: string;
}

const CHAINS: readonly ChainSpec[] = [
  { name: 'mark-arriving', type: 'filter', hook: 'prerouting', priority: -150 },
  { name: 'mark-leaving', type: 'route', hook: 'output', priority: -150 },
  { name: 'capture-arriving', type: 'nat', hook: 'prerouting', priority: -100 },
  { name: 'capture-leaving', type: 'nat', hook: 'output', priority: -100 },
];

const MASK = hex(MARK_MASK);
const MARK_REST = hex(~MARK_MASK >>> 0);
const FROM_AGENT = `meta mark & ${MASK} == ${hex(PROXY_MARK)}`;
const NOT_FROM_AGENT = `meta mark & ${MASK} != ${hex(PROXY_MARK)}`;
const FIRST_PACKET = 'tcp flags & (fin | syn | rst | ack) == syn';

/**
 * The transaction that brings the table into the wanted state, whatever it was before. `probePorts`: where probes may go;
 * absent when nobody knows, and then a packet with the source of probes may go to any port.
 */
export function buildRuleset(
  overrides: TrafficOverrides,
  mode: RulesMode = 'capture',
  probePorts?: readonly number[],
): Ruleset {
  const rules = [...markRules(), ...(mode === 'capture' ? captureRules(overrides, probePorts) : [])];
  const lines = [
    `add table inet ${RULES_TABLE}`,
    `delete table inet ${RULES_TABLE}`,
    `add table inet ${RULES_TABLE}`,
    ...CHAINS.map(chainStatement),
    ...rules.map((rule) => `add rule inet ${RULES_TABLE} ${rule.chain} ${rule.text} comment "${rule.id}"`),
  ];
  return { chains: CHAINS, rules, text: `${lines.join('\n')}\n` };
}

/** The transaction that removes the table, also when it does not exist. */
export const REMOVE_RULES_TEXT = `add table inet ${RULES_TABLE}\ndelete table inet ${RULES_TABLE}\n`;

function markRules(): RuleSpec[] {
  return [
    {
      chain: 'mark-arriving',
      id: 'note-preserved-source',
      text: `${FROM_AGENT} ct mark set ct mark & ${MARK_REST} | ${hex(SOURCE_PRESERVED_MARK)}`,
    },
    {
      chain: 'mark-leaving',
      id: 'return-to-agent',
      text: `ct mark & ${MASK} == ${hex(SOURCE_PRESERVED_MARK)} meta mark set ct mark`,
    },
  ];
}

function captureRules(overrides: TrafficOverrides, probePorts: readonly number[] | undefined): RuleSpec[] {
  return [...arrivingRules(overrides, probePorts), ...leavingRules()];
}

function arrivingRules(
  { captureInbound, virtualInterfaces }: TrafficOverrides,
  probePorts: readonly number[] | undefined,
): RuleSpec[] {
  const chain = 'capture-arriving';
  const rules: RuleSpec[] = virtualInterfaces.flatMap((name) => [
    {
      chain,
      id: `virtual-${name}`,
      text: `iifname "${name}" ${FIRST_PACKET} counter redirect to :${OUTBOUND_PORT}`,
    },
    { chain, id: `virtual-${name}-rest`, text: `iifname "${name}" meta l4proto tcp return` },
  ]);
  if (!captureInbound) return rules;
  return [
    ...rules,
    ...(probePorts?.length === 0 ? [] : probeRules('mark-arriving', 'probe-again', probePorts, 'accept')),
    {
      chain: 'mark-arriving',
      id: 'begun-without-syn',
      text: `iifname != "lo" tcp dport != ${HBONE_PORT} ${FIRST_PACKET} ct status & (confirmed | dnat) == confirmed counter drop`,
    },
    ...(probePorts?.length === 0 ? [] : probeRules(chain, 'probe-in', probePorts, 'counter accept')),
    {
      chain,
      id: 'plaintext-in',
      text: `iifname != "lo" tcp dport != ${HBONE_PORT} ${FIRST_PACKET} ${NOT_FROM_AGENT} counter redirect to :${INBOUND_PLAINTEXT_PORT}`,
    },
  ];
}

function probeRules(
  chain: ChainSpec['name'],
  id: string,
  ports: readonly number[] | undefined,
  verdict: string,
): RuleSpec[] {
  const where = ports === undefined ? 'meta l4proto tcp' : `tcp dport { ${ports.join(', ')} }`;
  return [
    { chain, id: `${id}-v4`, text: `ip saddr ${PROBE_SOURCE_V4} ${where} ${verdict}` },
    { chain, id: `${id}-v6`, text: `ip6 saddr ${PROBE_SOURCE_V6} ${where} ${verdict}` },
  ];
}

function leavingRules(): RuleSpec[] {
  const chain = 'capture-leaving';
  return [
    { chain, id: 'probe-out-v4', text: `ip daddr ${PROBE_SOURCE_V4} meta l4proto tcp accept` },
    { chain, id: 'probe-out-v6', text: `ip6 daddr ${PROBE_SOURCE_V6} meta l4proto tcp accept` },
    // DNS capture (UDP and TCP port 53 to 15053) belongs here, before anything over lo is let through.
    {
      chain,
      id: 'preserved-source',
      text: `meta mark & ${MASK} == ${hex(SOURCE_PRESERVED_MARK)} meta l4proto tcp accept`,
    },
    { chain, id: 'to-itself', text: 'oifname "lo" accept' },
    { chain, id: 'out', text: `${FIRST_PACKET} ${NOT_FROM_AGENT} counter redirect to :${OUTBOUND_PORT}` },
  ];
}

function chainStatement({ name, type, hook, priority }: ChainSpec): string {
  return `add chain inet ${RULES_TABLE} ${name} { type ${type} hook ${hook} priority ${priority}; policy accept; }`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
