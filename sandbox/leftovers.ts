/**
 * Looks for traces of a sandbox run on the host: processes that live in one of its namespaces, mounts that hold one,
 * and whatever changed in the host's own network set-up.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { runCommand } from './command.ts';

/** Names of namespaces as the kernel prints them: `net:[4026532201]`. */
export type WorldNamespaces = readonly string[];

/** One line per process or mount that still refers to one of the namespaces. */
export async function findNamespaceUsers(namespaces: WorldNamespaces): Promise<string[]> {
  const wanted = new Set(namespaces);
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name))) {
    for (const kind of ['net', 'mnt', 'pid', 'pid_for_children', 'ipc']) {
      const link = await readlink(`/proc/${pid}/ns/${kind}`).catch(() => '');
      if (!wanted.has(link)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      found.push(`process ${pid} (${command.replaceAll('\0', ' ').trim().slice(0, 120)}) in ${link}`);
      break;
    }
  }
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  for (const line of mounts.split('\n')) {
    for (const namespace of wanted) if (line.includes(namespace)) found.push(`mount ${line}`);
  }
  return found;
}

/** The host's own network set-up, part by part, as text. */
export interface HostState {
  readonly parts: ReadonlyMap<string, string>;
}

const PARTS: readonly { readonly name: string; readonly argv: readonly string[] }[] = [
  { name: 'nftables rules', argv: ['nft', 'list', 'ruleset'] },
  { name: 'links', argv: ['ip', '-details', 'link', 'show'] },
  { name: 'addresses', argv: ['ip', 'address', 'show'] },
  { name: 'IPv4 routes', argv: ['ip', '-4', 'route', 'show', 'table', 'all'] },
  { name: 'IPv6 routes', argv: ['ip', '-6', 'route', 'show', 'table', 'all'] },
  { name: 'IPv4 routing rules', argv: ['ip', '-4', 'rule', 'show'] },
  { name: 'IPv6 routing rules', argv: ['ip', '-6', 'rule', 'show'] },
  {
    name: 'forwarding',
    argv: ['sh', '-c', 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding'],
  },
];

/** Takes the state. Remaining lifetimes of addresses count down by themselves and are left out. */
export async function readHostState(): Promise<HostState> {
  const parts = new Map<string, string>();
  for (const { name, argv } of PARTS) {
    const { stdout } = await runCommand(argv);
    parts.set(name, stdout.replaceAll(/(valid_lft|preferred_lft|expires) [0-9]+sec/g, '$1'));
  }
  return { parts };
}

/** Names of the parts that differ, with the digests of both versions. */
export function compareHostStates(before: HostState, after: HostState): string[] {
  const changed: string[] = [];
  for (const [name, text] of before.parts) {
    const now = after.parts.get(name) ?? '';
    if (now !== text)
      changed.push(`${name} changed (${digest(text)} -> ${digest(now)})\n${firstDifference(text, now)}`);
  }
  return changed;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

function firstDifference(before: string, after: string): string {
  const old = before.split('\n');
  const now = after.split('\n');
  const index = now.findIndex((line, at) => line !== old[at]);
  return `  before: ${old[index] ?? '(nothing)'}\n  after:  ${now[index] ?? '(nothing)'}`;
}
