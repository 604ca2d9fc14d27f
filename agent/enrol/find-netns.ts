/**
 * Finds the network namespace of a pod that runs already, in the order of trust:
 *
 *   1. the sandbox the runtime told of in its CNI call, now or in a former run of the agent
 *   2. the runtime's mounts of network namespaces (/var/run/netns), recognised by the pod's address inside
 *   3. the processes of the node, where their /proc is visible, recognised likewise, doubts settled by the pod's cgroup
 *
 * Never a namespace of the node, nor one that was announced for, or is held by, another pod. When several fit, none is taken:
 * a pod that gave itself another pod's address must not get its identity. Who uses the result verifies it again.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Attachment } from '../../core/enrolment/cni-wire.ts';
import { AmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { MAX_CANDIDATES } from './limits.ts';
import type { PodFacts } from './pod-directory.ts';
import { type NetnsIdentity, nodeNamespaces, pathStillLeadsTo } from './pod-netns.ts';
import { PodRouting } from './pod-routing.ts';
import type { SandboxStore } from './sandbox-store.ts';

export interface FoundNetns {
  readonly path: string;
  readonly expected?: NetnsIdentity;
  /** Known only when the runtime told of the sandbox. */
  readonly attachment: Attachment | undefined;
  readonly ips: readonly IpAddress[];
}

export interface NetnsSources {
  readonly sandboxes: SandboxStore;
  /** Folders where runtimes mount network namespaces. */
  readonly directories: readonly string[];
  /** Where the node's /proc is visible; undefined when it is not. */
  readonly hostProc: string | undefined;
  /** The node's own namespace, when it is not the agent's. */
  readonly hostNetns: string | undefined;
  /** UID of the pod that holds a namespace. */
  readonly findHolder: (netns: NetnsIdentity) => string | undefined;
}

interface Candidate extends NetnsIdentity {
  readonly path: string;
  readonly pids: string[];
}

/** Rejects with `NETNS` saying what was looked at and why nothing fits. */
export async function findPodNetns(pod: PodFacts, sources: NetnsSources): Promise<FoundNetns> {
  const uids = [pod.uid, pod.staticUid].filter((uid) => uid !== undefined);
  for (const uid of uids) {
    const sandbox = sources.sandboxes.find(uid);
    if (sandbox === undefined || !pathStillLeadsTo(sandbox.netns.path, sandbox.netns)) continue;
    const { path, ...expected } = sandbox.netns;
    const ips = sandbox.ips.length > 0 ? sandbox.ips : pod.ips;
    return { path, expected, attachment: sandbox.attachment, ips };
  }
  const looked: string[] = [];
  for (const places of [mounts(sources), processes(sources)]) {
    looked.push(places.what);
    const fitting = await fittingCandidates(places.candidates, pod, uids, sources);
    const chosen = fitting.length > 1 ? byCgroup(fitting, uids, sources.hostProc) : fitting;
    const [only, ...others] = chosen;
    if (only === undefined && fitting.length === 0) continue;
    if (only === undefined || others.length > 0) {
      const paths = fitting.map(({ path }) => path).join(', ');
      throw new AmbitError('NETNS', `several network namespaces hold the address of the pod, none is taken: ${paths}`);
    }
    const { path, device, inode } = only;
    return { path, expected: { device, inode }, attachment: undefined, ips: pod.ips };
  }
  throw new AmbitError(
    'NETNS',
    `no network namespace with ${pod.ips.join(' or ')} was found (${looked.join('; ')}); a pod that is created anew is enrolled by its CNI call`,
  );
}

async function fittingCandidates(
  candidates: readonly Candidate[],
  pod: PodFacts,
  uids: readonly string[],
  sources: NetnsSources,
): Promise<Candidate[]> {
  const foreign = new Set(nodeNamespaces(sources).map(keyOfNetns));
  for (const { uid, netns } of sources.sandboxes.all()) if (!uids.includes(uid)) foreign.add(keyOfNetns(netns));
  const fitting: Candidate[] = [];
  for (const candidate of candidates) {
    if (foreign.has(keyOfNetns(candidate))) continue;
    const holder = sources.findHolder(candidate);
    if (holder !== undefined && !uids.includes(holder)) continue;
    if (await holdsAddress(candidate.path, pod.ips)) fitting.push(candidate);
  }
  return fitting;
}

/** Those of which a process lies in the pod's cgroup. */
function byCgroup(candidates: readonly Candidate[], uids: readonly string[], hostProc: string | undefined) {
  if (hostProc === undefined) return [];
  return candidates.filter(({ pids }) => pids.some((pid) => uids.includes(podUidOf(hostProc, pid) ?? '')));
}

/** A namespace that cannot be entered or asked holds nothing as far as anybody can tell. */
async function holdsAddress(path: string, ips: readonly IpAddress[]): Promise<boolean> {
  let netns: NetworkNamespace | undefined;
  try {
    netns = NetworkNamespace.openPath(path);
    using routing = PodRouting.open(netns);
    const configured = await routing.listAddresses();
    return ips.some((ip) => configured.includes(ip));
  } catch {
    return false;
  } finally {
    netns?.close();
  }
}

function mounts({ directories }: NetnsSources): { what: string; candidates: Candidate[] } {
  const paths = directories.flatMap((folder) => namesIn(folder).map((name) => join(folder, name)));
  return {
    what: `mounts in ${directories.join(', ')}`,
    candidates: distinct(paths.map((path) => ({ path, pids: [] }))),
  };
}

function processes({ hostProc }: NetnsSources): { what: string; candidates: Candidate[] } {
  if (hostProc === undefined) return { what: "the node's processes are not visible", candidates: [] };
  const pids = namesIn(hostProc).filter((name) => /^[0-9]+$/.test(name));
  const found = pids.map((pid) => ({ path: join(hostProc, pid, 'ns', 'net'), pids: [pid] }));
  return { what: `processes in ${hostProc}`, candidates: distinct(found) };
}

/** One candidate per namespace, with every process seen in it; of several paths the first. */
function distinct(found: readonly { readonly path: string; readonly pids: string[] }[]): Candidate[] {
  const candidates = new Map<string, Candidate>();
  for (const { path, pids } of found.slice(0, MAX_CANDIDATES)) {
    const identity = identityAt(path);
    if (identity === undefined) continue;
    const known = candidates.get(keyOfNetns(identity));
    if (known === undefined) candidates.set(keyOfNetns(identity), { ...identity, path, pids });
    else known.pids.push(...pids);
  }
  return [...candidates.values()];
}

/** Undefined for what is no regular file, cannot be looked at, or is gone. */
function identityAt(path: string): NetnsIdentity | undefined {
  try {
    const status = statSync(path, { bigint: true });
    return status.isFile() ? { device: String(status.dev), inode: String(status.ino) } : undefined;
  } catch {
    return undefined;
  }
}

const POD_IN_CGROUP = /pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})/;
/** Static pods have the hash of their file as UID. */
const STATIC_POD_IN_CGROUP = /pod([0-9a-f]{32})/;

function podUidOf(hostProc: string, pid: string): string | undefined {
  try {
    return readPodUid(readFileSync(join(hostProc, pid, 'cgroup'), 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * The pod's UID in the text of /proc/<pid>/cgroup, as kubelet names its cgroups (cgroupfs and systemd drivers, v1 and v2).
 * Undefined when there is none, or when the lines disagree.
 */
export function readPodUid(text: string): string | undefined {
  const uids = new Set<string>();
  for (const line of text.split('\n')) {
    const uid = (POD_IN_CGROUP.exec(line) ?? STATIC_POD_IN_CGROUP.exec(line))?.[1];
    if (uid !== undefined) uids.add(uid.replaceAll('_', '-'));
  }
  const [only, ...others] = uids;
  return others.length === 0 ? only : undefined;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function keyOfNetns({ device, inode }: NetnsIdentity): string {
  return `${device}:${inode}`;
}
