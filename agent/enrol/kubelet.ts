/**
 * Which user kubelet runs as, told from the node's processes. Root nearly everywhere, and the answer where the processes
 * cannot be seen. A process counts when it has kubelet's name, the node's network, and is in no pod: names are free.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readPodUid } from './find-netns.ts';

/** Programs that are kubelet, or contain it. */
const NAMES: ReadonlySet<string> = new Set(['kubelet', 'kubelite', 'k3s', 'k3s-server', 'k3s-agent']);
const ROOT = 0;

export interface KubeletUser {
  readonly uid: number;
  /** How it is known, for the log. */
  readonly source: string;
}

/** Finds kubelet, and looks at the process it found last first: a node has thousands. */
export class KubeletFinder {
  readonly #hostProc: string | undefined;
  #lastPid: string | undefined;

  /** `hostProc`: where the node's /proc is visible; undefined when it is not. */
  constructor(hostProc: string | undefined) {
    this.#hostProc = hostProc;
  }

  find(): KubeletUser {
    const hostProc = this.#hostProc;
    if (hostProc === undefined) return { uid: ROOT, source: "the node's processes are not visible" };
    const network = inodeOf(join(hostProc, '1', 'ns', 'net'));
    const last = this.#lastPid === undefined ? undefined : lookAt(hostProc, this.#lastPid, network);
    if (last !== undefined) return last;
    for (const pid of pidsIn(hostProc)) {
      const found = lookAt(hostProc, pid, network);
      if (found === undefined) continue;
      this.#lastPid = pid;
      return found;
    }
    return { uid: ROOT, source: 'no process of the node is kubelet' };
  }
}

/** Undefined when the process is not kubelet, or gone. */
function lookAt(hostProc: string, pid: string, network: string | undefined): KubeletUser | undefined {
  const folder = join(hostProc, pid);
  const name = read(join(folder, 'comm')).trim();
  if (!NAMES.has(name) || readPodUid(read(join(folder, 'cgroup'))) !== undefined) return undefined;
  if (network !== undefined && inodeOf(join(folder, 'ns', 'net')) !== network) return undefined;
  const uid = /^Uid:\s+[0-9]+\s+([0-9]+)/m.exec(read(join(folder, 'status')))?.[1];
  return uid === undefined ? undefined : { uid: Number(uid), source: `process ${pid} (${name})` };
}

function pidsIn(hostProc: string): string[] {
  try {
    return readdirSync(hostProc)
      .filter((name) => /^[0-9]+$/.test(name))
      .sort((a, b) => Number(a) - Number(b));
  } catch {
    return [];
  }
}

function inodeOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
