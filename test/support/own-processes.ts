/**
 * Servers that a test starts beside itself, in a folder of their own. They end with the test in every case: when it says
 * so; when its process exits; when that process is killed (the kernel tells the children, PR_SET_PDEATHSIG); and what a
 * killed run left on disk is removed by the next one. A process is named by pid and start time, so that a pid that
 * was given to somebody else is never signalled.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findOnPath } from './cluster-binaries.ts';

const WANTED_BYTES = 1024 ** 3;
const PIDS_FILE = 'pids';
/** Output of a server that is quoted in an error, in characters from its end. */
const QUOTED_OUTPUT = 2000;
const running = new Set<OwnProcess>();
let folders = 0;

process.once('exit', () => {
  for (const child of running) child.killNow();
});

/** A new folder `PREFIX-PID-STARTTIME-N`, in memory where there is room; removes those of dead runs. */
export function makeRunFolder(prefix: string): string {
  const base = fastFolder();
  removeAbandoned(base, prefix);
  const folder = join(base, `${prefix}-${process.pid}-${startTime(process.pid)}-${++folders}`);
  mkdirSync(folder, { mode: 0o700 });
  return folder;
}

export class OwnProcess {
  readonly name: string;
  readonly pid: number;
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #log: string;

  /** Starts a program; its output goes to `<folder>/<name>.log`. */
  constructor(folder: string, name: string, program: string, args: readonly string[]) {
    this.name = name;
    this.#log = join(folder, `${name}.log`);
    const output = openSync(this.#log, 'a');
    const setpriv = findOnPath('setpriv');
    const command = setpriv === undefined ? [program, ...args] : [setpriv, '--pdeathsig', 'KILL', program, ...args];
    const [file = program, ...rest] = command;
    this.#child = spawn(file, rest, { stdio: ['ignore', output, output] });
    closeSync(output);
    this.ended = new Promise<void>((resolve) => {
      this.#child.once('exit', () => resolve());
      this.#child.once('error', () => resolve());
    }).then(() => {
      running.delete(this);
    });
    this.pid = this.#child.pid ?? 0;
    running.add(this);
    if (this.pid > 0) writeFileSync(join(folder, PIDS_FILE), `${this.pid} ${startTime(this.pid)}\n`, { flag: 'a' });
  }

  get alive(): boolean {
    return this.pid > 0 && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.killNow();
    await this.ended;
  }

  killNow(): void {
    if (this.alive) this.#child.kill('SIGKILL');
  }

  /** Throws with the end of the log when the process is not running. */
  requireAlive(): void {
    if (!this.alive) throw new Error(`${this.name} ended:\n${this.logTail()}`);
  }

  logTail(): string {
    try {
      return readFileSync(this.#log, 'utf8').slice(-QUOTED_OUTPUT);
    } catch {
      return '';
    }
  }
}

/** A TCP port on loopback below the ephemeral range, so that no outgoing connection takes it while its server is down. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await canListen(port)) return port;
  }
  throw new Error('no free port between 20000 and 32000 on 127.0.0.1');
}

function canListen(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once('error', () => resolve(false));
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  return promise;
}

/** Memory where it is large enough: etcd waits for the disk on every write otherwise. */
function fastFolder(): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize >= WANTED_BYTES ? '/dev/shm' : tmpdir();
  } catch {
    return tmpdir();
  }
}

function removeAbandoned(base: string, prefix: string): void {
  for (const name of readdirSync(base)) {
    const [pid, start] = name.startsWith(`${prefix}-`) ? name.slice(prefix.length + 1).split('-') : [];
    if (pid === undefined || start === undefined || startTime(Number(pid)) === start) continue;
    const folder = join(base, name);
    for (const line of readLines(join(folder, PIDS_FILE))) {
      const [child = '', childStart] = line.split(' ');
      if (startTime(Number(child)) === childStart) process.kill(Number(child), 'SIGKILL');
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Field 22 of /proc/PID/stat (proc(5)): clock ticks since boot. Empty when there is no such process. */
function startTime(pid: number): string {
  const [stat = ''] = readLines(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n');
  } catch {
    return [];
  }
}
