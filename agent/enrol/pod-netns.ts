/**
 * The network namespace of a pod: opened once by the path of the CNI call, proved to be the pod's, then used only through
 * the open descriptor. What is proved: it is a network namespace, not the agent's own nor its node's, not one another pod is enrolled with, and
 * it holds an address of the pod. Device and inode are kept, so that a later opening by path can be told from another
 * namespace that took the name.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import { HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from '../../core/ports.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { mayBeTaken } from '../../reactor/port-check.ts';
import { PodRouting } from './pod-routing.ts';

/** What identifies a namespace as long as it lives. Decimal text, since inode numbers exceed doubles and JSON. */
export interface NetnsIdentity {
  readonly device: string;
  readonly inode: string;
}

const PORTS: readonly number[] = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, HBONE_PORT];

/** State of TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h). */
const TCP_LISTEN = '0A';
const TCP_ESTABLISHED = '01';

/**
 * Opens and proves. The caller owns the result. Throws `NETNS` naming what does not fit; `expected` is the identity a
 * former run recorded.
 */
export async function openPodNetns(
  path: string,
  ips: readonly IpAddress[],
  expected?: NetnsIdentity,
  node: NodeView = {},
): Promise<NetworkNamespace> {
  const netns = openNamespace(path);
  try {
    const identity = identityOf(netns);
    if (expected !== undefined && !sameNetns(identity, expected)) {
      throw new AmbitError('NETNS', `${path} is another namespace than the one the pod was enrolled with`);
    }
    for (const foreign of nodeNamespaces(node)) {
      if (sameNetns(identity, foreign)) throw new AmbitError('NETNS', `${path} is the network of the node itself`);
    }
    using routing = PodRouting.open(netns);
    const configured = await routing.listAddresses();
    if (!ips.some((ip) => configured.includes(ip))) {
      throw new AmbitError('NETNS', `none of the pod's addresses (${ips.join(', ')}) is configured inside ${path}`);
    }
    return netns;
  } catch (thrown) {
    netns.close();
    throw toAmbitError(thrown, 'NETNS');
  }
}

export function identityOf(netns: NetworkNamespace): NetnsIdentity {
  return { device: String(netns.device), inode: String(netns.inode) };
}

export function sameNetns(a: NetnsIdentity, b: NetnsIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

/** Does the path still lead to this namespace? False when it is gone, too. */
export function pathStillLeadsTo(path: string, identity: NetnsIdentity): boolean {
  const found = findIdentity(path);
  return found !== undefined && sameNetns(found, identity);
}

/** Quick look before we listen ourselves: only a port that may be taken is worth the full list. */
export function findForeignBeforeListening(netns: NetworkNamespace): number[] {
  const free = netns.run(() => PORTS.every((port) => !mayBeTaken(port)));
  return free ? [] : findForeignListeners(netns);
}

/**
 * Ports of ours on which a socket of another process listens inside the namespace (a pod that takes 15001 for itself
 * would see its own captured traffic). Compares the kernel's list with the sockets of this process, which the caller may
 * read once for many pods.
 */
export function findForeignListeners(netns: NetworkNamespace, own?: ReadonlySet<string>): number[] {
  const found = listeners(netns);
  if (found.length === 0) return [];
  const ours = own ?? ownSocketInodes();
  const foreign = found.filter(({ inode }) => !ours.has(inode));
  return [...new Set(foreign.map(({ port }) => port))].sort((a, b) => a - b);
}

/** Ports of ours that nobody of this process listens on inside the namespace. */
export function findMissingListeners(netns: NetworkNamespace): number[] {
  const own = ownSocketInodes();
  const open = new Set(listeners(netns).flatMap(({ port, inode }) => (own.has(inode) ? [port] : [])));
  return PORTS.filter((port) => !open.has(port));
}

/** Connections that stand on ports of ours inside the namespace, whichever process holds them. */
export function countCarried(netns: NetworkNamespace): number {
  return rowsOf(netns).filter(({ state, port }) => state === TCP_ESTABLISHED && PORTS.includes(port)).length;
}

/** Inodes of the sockets this process has open. */
export function ownSocketInodes(): Set<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const match = /^socket:\[([0-9]+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`));
      if (match?.[1] !== undefined) inodes.add(match[1]);
    } catch {
      // Closed since the folder was read.
    }
  }
  return inodes;
}

function openNamespace(path: string): NetworkNamespace {
  try {
    // Namespaces are regular files; anything else could block the opening.
    if (!statSync(path).isFile()) throw new AmbitError('NETNS', `${path} is not a network namespace`);
    return NetworkNamespace.openPath(path);
  } catch (thrown) {
    throw toAmbitError(thrown, 'NETNS');
  }
}

/** Where the node shows itself, besides in this process. */
export interface NodeView {
  /** Path of the node's network namespace. */
  readonly hostNetns?: string | undefined;
  /** Where the node's /proc is visible. */
  readonly hostProc?: string | undefined;
}

/** The agent's own namespace, the one it was told, and where the process tree of the node is visible that of its first process. */
export function nodeNamespaces({ hostNetns, hostProc }: NodeView): NetnsIdentity[] {
  const paths = ['/proc/self/ns/net', '/proc/1/ns/net', hostNetns, hostProc && `${hostProc}/1/ns/net`];
  return paths.flatMap((path) => (path ? (findIdentity(path) ?? []) : []));
}

/** Undefined when nothing is there. */
export function findIdentity(path: string): NetnsIdentity | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return { device: String(dev), inode: String(ino) };
  } catch {
    return undefined;
  }
}

interface Listener {
  readonly port: number;
  /** Inode of the socket, as in the link text of /proc/self/fd. */
  readonly inode: string;
}

function listeners(netns: NetworkNamespace): Listener[] {
  return rowsOf(netns).filter(({ state, port }) => state === TCP_LISTEN && PORTS.includes(port));
}

function rowsOf(netns: NetworkNamespace): SocketRow[] {
  const tables = netns.run(() => ['tcp', 'tcp6'].map((name) => readTable(`/proc/thread-self/net/${name}`)));
  return tables.flatMap((table) => parseSockets(table));
}

interface SocketRow extends Listener {
  /** Two hexadecimal digits (include/net/tcp_states.h). */
  readonly state: string;
}

/** Rows of /proc/net/tcp in state LISTEN. */
export function parseListeners(table: string): Listener[] {
  const rows = parseSockets(table).filter(({ state }) => state === TCP_LISTEN);
  return rows.map(({ port, inode }) => ({ port, inode }));
}

/** Rows of /proc/net/tcp: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`. */
function parseSockets(table: string): SocketRow[] {
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([, local, , state, , , , , , inode]) => {
      const port = Number.parseInt(local?.split(':')[1] ?? '', 16);
      return state !== undefined && inode !== undefined && !Number.isNaN(port) ? [{ state, port, inode }] : [];
    });
}

function readTable(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
