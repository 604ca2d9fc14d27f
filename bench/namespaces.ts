/**
 * The machines of the benchmark: network namespaces with their own links, made by this run, named after its process and
 * removed at its end (a run that was killed is cleaned up by the next). Programs are started in them with a raised limit
 * of open files, and end with them.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';

const PREFIX = 'ambit-b';
const OPEN_FILES = 200_000;
let created = 0;

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Where standard output goes; default nowhere. */
  readonly stdout?: number;
}

export class Namespace {
  readonly name: string;
  readonly path: string;
  readonly #children = new Set<ChildProcess>();

  constructor(label: string) {
    this.name = `${PREFIX}${process.pid}-${++created}-${label}`;
    this.path = `/run/netns/${this.name}`;
    execFileSync('ip', ['netns', 'add', this.name]);
    this.ip('link set lo up');
    // Many short connections: more ports, and reuse of those in TIME-WAIT.
    this.run('sysctl', '-qw', 'net.ipv4.ip_local_port_range=1024 65535', 'net.ipv4.tcp_tw_reuse=1');
  }

  /** `ip` inside the namespace, arguments separated by blanks. */
  ip(args: string): void {
    execFileSync('ip', ['-n', this.name, ...args.split(' ')], { stdio: 'pipe' });
  }

  /** Runs a program to its end and returns its standard output; throws with its standard error. */
  run(program: string, ...args: readonly string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, program, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 64 << 20,
    });
  }

  /** As `run`, without blocking this process; `input` goes to standard input. */
  runAsync(program: string, args: readonly string[], input = ''): Promise<string> {
    const child = this.#spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.stdin?.end(input);
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: exit ${code}: ${(stderr || stdout).slice(-2000)}`));
    });
    return promise;
  }

  /** Starts a program that goes on; it is ended with the namespace. The pid is the program's own. */
  start(program: string, args: readonly string[], options: StartOptions = {}): ChildProcess {
    const stdio = ['ignore', options.stdout ?? 'ignore', 'pipe'] as const;
    const child = this.#spawn(program, args, { stdio: [...stdio], env: { ...process.env, ...options.env } });
    child.stderr?.resume();
    return child;
  }

  /** Starts a helper that talks over standard input and output. */
  talk(program: string, args: readonly string[]): ChildProcess {
    return this.#spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  async remove(): Promise<void> {
    await Promise.all([...this.#children].map(endChild));
    try {
      execFileSync('ip', ['netns', 'del', this.name], { stdio: 'pipe' });
    } catch {
      // Already gone.
    }
  }

  /** nsenter and prlimit replace themselves by the program, so the child's pid is the program's. */
  #spawn(program: string, args: readonly string[], options: Parameters<typeof spawn>[2]): ChildProcess {
    const child = spawn(
      'nsenter',
      [`--net=${this.path}`, 'prlimit', `--nofile=${openFileLimit()}:${openFileLimit()}`, program, ...args],
      options,
    );
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }
}

/** Two namespaces joined by a link: 10.98.0.1 and 10.98.0.2. */
export interface Pair {
  readonly client: Namespace;
  readonly server: Namespace;
}

export const CLIENT_ADDRESS = '10.98.0.1';
export const SERVER_ADDRESS = '10.98.0.2';

export function createPair(): Pair {
  const client = new Namespace('client');
  const server = new Namespace('server');
  link(client, CLIENT_ADDRESS, server, SERVER_ADDRESS);
  return { client, server };
}

function link(one: Namespace, oneAddress: string, other: Namespace, otherAddress: string): void {
  one.ip(`link add eth0 type veth peer name eth0 netns ${other.name}`);
  for (const [namespace, address] of [
    [one, oneAddress],
    [other, otherAddress],
  ] as const) {
    namespace.ip(`addr add ${address}/24 dev eth0`);
    namespace.ip('link set eth0 up');
  }
}

/** SIGTERM, SIGKILL after three seconds; resolves when the process has ended. */
export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const insist = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended;
  clearTimeout(insist);
}

/** Removes namespaces whose run is dead. */
export function removeAbandoned(): void {
  for (const name of listNamespaces()) {
    const owner = new RegExp(`^${PREFIX}([0-9]+)-`).exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
  }
}

function listNamespaces(): string[] {
  try {
    return readdirSync('/run/netns');
  } catch {
    return [];
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

let limit: number | undefined;

/** Open files every program gets: the wanted limit where this machine grants it, else its hard limit. */
export function openFileLimit(): number {
  if (limit !== undefined) return limit;
  try {
    execFileSync('prlimit', [`--nofile=${OPEN_FILES}:${OPEN_FILES}`, 'true'], { stdio: 'ignore' });
    limit = OPEN_FILES;
  } catch {
    const hard = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
    limit = hard === 'unlimited' ? OPEN_FILES : Number(hard);
  }
  return limit;
}
