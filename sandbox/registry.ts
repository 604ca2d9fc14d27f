/**
 * Which sandboxes run on this host: one folder per run below /run/ambit-sandbox with the identity of its two processes.
 * A process is named by its number and its start time, so that a number that was given out again is not mistaken for it.
 */
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { isRecord } from '../core/decoder.ts';
import { COMMAND_SOCKET, REGISTRY_DIRECTORY } from './layout.ts';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat (proc(5)), clock ticks after boot. */
  readonly startTime: string;
}

export interface SandboxRun {
  readonly id: string;
  /** The process of the host side, which the user started. */
  readonly host: ProcessIdentity;
  /** The first process inside the run's own namespaces. */
  readonly world: ProcessIdentity;
}

/** Identity of a live process, undefined when there is none of that number. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // Field 3 is the state; a zombie has no namespaces and no memory left.
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return { pid, startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await identifyProcess(identity.pid))?.startTime === identity.startTime;
}

export async function registerRun(run: SandboxRun): Promise<void> {
  const folder = `${REGISTRY_DIRECTORY}/${run.id}`;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(`${folder}/run.json`, JSON.stringify(run), { mode: 0o600 });
}

/** Removes the run's folder, and the registry itself when it was the last. */
export async function unregisterRun(id: string): Promise<void> {
  await rm(`${REGISTRY_DIRECTORY}/${id}`, { recursive: true, force: true });
  await rmdir(REGISTRY_DIRECTORY).catch(() => {});
}

/** All runs on record, dead ones included; a record that cannot be read counts as dead and has no processes. */
export async function listRuns(): Promise<{ readonly id: string; readonly run: SandboxRun | undefined }[]> {
  const ids = await readdir(REGISTRY_DIRECTORY).catch(() => []);
  return Promise.all(ids.map(async (id) => ({ id, run: await readRun(id) })));
}

/** Runs whose world is alive, oldest first. */
export async function listLiveRuns(): Promise<SandboxRun[]> {
  const live: SandboxRun[] = [];
  for (const { run } of await listRuns()) if (run !== undefined && (await isAlive(run.world))) live.push(run);
  return live.sort((left, right) => Number(left.world.startTime) - Number(right.world.startTime));
}

/**
 * Removes what crashed runs left: their record, and a world that outlived its host process (the kernel ends everything
 * in it with its first process). Returns the ids.
 */
export async function removeAbandonedRuns(): Promise<string[]> {
  const removed: string[] = [];
  for (const { id, run } of await listRuns()) {
    if (run !== undefined && (await isAlive(run.host))) continue;
    if (run !== undefined && (await isAlive(run.world))) await killAndWait(run.world);
    await unregisterRun(id);
    removed.push(id);
  }
  return removed;
}

/** Path, as seen from the host, of a file inside the run's own mount namespace. */
export function worldPath(run: SandboxRun, path: string): string {
  return `/proc/${run.world.pid}/root${path}`;
}

export function commandSocketOf(run: SandboxRun): string {
  return worldPath(run, COMMAND_SOCKET);
}

async function killAndWait(identity: ProcessIdentity): Promise<void> {
  process.kill(identity.pid, 'SIGKILL');
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline && (await isAlive(identity))) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function readRun(id: string): Promise<SandboxRun | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(`${REGISTRY_DIRECTORY}/${id}/run.json`, 'utf8'));
    if (!isRecord(value)) return undefined;
    const host = decodeIdentity(value.host);
    const world = decodeIdentity(value.world);
    return host === undefined || world === undefined ? undefined : { id, host, world };
  } catch {
    return undefined;
  }
}

function decodeIdentity(value: unknown): ProcessIdentity | undefined {
  if (!isRecord(value) || typeof value.pid !== 'number' || typeof value.startTime !== 'string') return undefined;
  return Number.isInteger(value.pid) && value.pid > 1 ? { pid: value.pid, startTime: value.startTime } : undefined;
}
