/**
 * The sandbox as the host sees it: one process tree in namespaces of its own.
 *
 * The world (world.ts) is started as the first process of new network, mount, process and IPC namespaces. Whatever it
 * makes (nodes, links, rules, mounts, files below /run) exists only there, and the kernel removes all of it when that
 * process ends, however it ends. If this process dies first, the world is killed too (parent-death signal). What is left
 * on the host is one record (registry.ts), which the next run removes.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readlink } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { isRecord } from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';
import { REPOSITORY_DIRECTORY } from './layout.ts';
import { findNamespaceUsers, type WorldNamespaces } from './leftovers.ts';
import { identifyProcess, type ProcessIdentity, registerRun, removeAbandonedRuns, unregisterRun } from './registry.ts';

const NAMESPACE_KINDS = ['net', 'mnt', 'pid', 'ipc'] as const;
const START_DEADLINE_MS = 10_000;

export interface HostOptions {
  /** Passed to the world as its only argument. */
  readonly worldOptions: Readonly<Record<string, unknown>>;
}

export interface HostResult {
  readonly exitStatus: number;
  /** How many namespaces were looked for after the end. */
  readonly namespaces: number;
  /** Processes and mounts that still belong to the run after its end; must be empty. */
  readonly leftovers: readonly string[];
}

/** Runs one sandbox from start to end. SIGINT and SIGTERM end it in order; a second one at once. */
export async function runOnHost(options: HostOptions): Promise<HostResult> {
  await removeAbandonedRuns();
  const host = await identifyProcess(process.pid);
  if (host === undefined) throw new AmbitError('SANDBOX', '/proc is not readable');
  const id = `${process.pid}-${host.startTime}`;
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'unshare'],
      ...['--net', '--mount', '--pid', '--ipc', '--fork', '--kill-child=KILL', '--mount-proc'],
      ...['--propagation', 'private', process.execPath, `${REPOSITORY_DIRECTORY}/sandbox/world.ts`],
      JSON.stringify(options.worldOptions),
    ],
    { stdio: ['inherit', 'inherit', 'inherit', 'pipe'], cwd: REPOSITORY_DIRECTORY },
  );
  const exited = once(child, 'exit');
  child.once('error', () => {});
  let world: ProcessIdentity | undefined;
  let namespaces: WorldNamespaces = [];
  const reports = child.stdio[3];
  if (reports instanceof Readable) {
    createInterface({ input: reports }).on('line', (line) => {
      namespaces = [...namespaces, ...readReport(line)];
    });
  }
  // The terminal sends Ctrl-C to the world as well; other senders know only this process.
  const forward = (signal: NodeJS.Signals): void => {
    if (world !== undefined && signal !== 'SIGINT') trySignal(world.pid, signal);
  };
  const onInterrupt = (): void => {
    if (!process.stdin.isTTY && world !== undefined) trySignal(world.pid, 'SIGINT');
  };
  const onTerminate = (): void => forward('SIGTERM');
  const onHangUp = (): void => forward('SIGHUP');
  process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate).on('SIGHUP', onHangUp);
  try {
    world = await findWorld(child.pid, exited);
    if (world !== undefined) {
      namespaces = [...namespaces, ...(await readNamespaces(world.pid))];
      await registerRun({ id, host, world });
    }
    const [status, signal]: unknown[] = await exited;
    const exitStatus = typeof status === 'number' ? status : 1;
    if (signal !== null) process.stderr.write(`sandbox: ended by ${String(signal)}\n`);
    return { exitStatus, namespaces: namespaces.length, leftovers: await awaitNothingLeft(namespaces) };
  } finally {
    process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate).off('SIGHUP', onHangUp);
    await unregisterRun(id);
  }
}

/** The first process of the new namespaces: the only child of unshare, once unshare has replaced setpriv. */
async function findWorld(launcher: number | undefined, exited: Promise<unknown>): Promise<ProcessIdentity | undefined> {
  let ended = launcher === undefined;
  void exited.then(() => {
    ended = true;
  });
  const deadline = Date.now() + START_DEADLINE_MS;
  while (!ended && Date.now() < deadline) {
    const children = await readFile(`/proc/${launcher}/task/${launcher}/children`, 'utf8').catch(() => '');
    const pid = Number(children.trim().split(' ')[0]);
    const identity = pid > 0 ? await identifyProcess(pid) : undefined;
    if (identity !== undefined) return identity;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return undefined;
}

async function readNamespaces(pid: number): Promise<WorldNamespaces> {
  const links = await Promise.all(
    NAMESPACE_KINDS.map((kind) => readlink(`/proc/${pid}/ns/${kind}`).catch(() => undefined)),
  );
  const own = await Promise.all(NAMESPACE_KINDS.map((kind) => readlink(`/proc/self/ns/${kind}`)));
  return links.flatMap((link, index) => (link === undefined || link === own[index] ? [] : [link]));
}

/** The kernel ends the rest of the process tree right after its first process; that takes milliseconds. */
async function awaitNothingLeft(namespaces: WorldNamespaces): Promise<readonly string[]> {
  const deadline = Date.now() + 5000;
  for (;;) {
    const left = await findNamespaceUsers(namespaces);
    if (left.length === 0 || Date.now() > deadline) return left;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Network namespaces the world made inside its own: `{"namespaces": ["net:[4026532201]"]}`. */
function readReport(line: string): WorldNamespaces {
  const value: unknown = JSON.parse(line);
  return isRecord(value) && Array.isArray(value.namespaces) ? value.namespaces.map(String) : [];
}

function trySignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended in between.
  }
}
