/** A sandbox started the way a user starts it, as a child process; its output, its identity, and what is left of it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { findNamespaceUsers } from '../../sandbox/leftovers.ts';
import { identifyProcess, listRuns, type SandboxRun } from '../../sandbox/registry.ts';

const LAUNCHER = new URL('../../cli/ambit', import.meta.url).pathname;
const DEADLINE_MS = 60_000;

export class SandboxProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  output = '';
  readonly #exited: Promise<unknown[]>;

  /** @param launcher the `ambit` to start; by default that of this repository */
  constructor(args: readonly string[] = [], launcher: string = LAUNCHER) {
    this.child = spawn(launcher, ['sandbox', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#exited = once(this.child, 'exit');
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#add(text));
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#add(text));
  }

  readonly #waiting = new Set<() => void>();

  #add(text: string): void {
    this.output += text;
    for (const look of [...this.#waiting]) look();
  }

  /** Resolves when the output contains the text; rejects with the output when the process ends or time is up first. */
  async awaitOutput(text: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.output.includes(text)) resolve();
    };
    const fail = (why: string): void => reject(new Error(`${why} before ${JSON.stringify(text)}:\n${this.output}`));
    this.#waiting.add(look);
    const timer = setTimeout(() => fail('time was up'), DEADLINE_MS);
    void this.#exited.then(() => fail('it ended'));
    look();
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }

  /** The record of this run; it must be there. */
  async run(): Promise<SandboxRun> {
    const own = (await listRuns()).find(({ run }) => run?.host.pid === this.child.pid);
    if (own?.run === undefined) throw new Error('the run has no record');
    return own.run;
  }

  /** Runs an `ambit` command against this run. */
  async ambit(...args: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
    const env = { ...process.env, AMBIT_SANDBOX: (await this.run()).id };
    return spawnSync(LAUNCHER, args, { encoding: 'utf8', env });
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** Exit status, or the name of the signal that ended it. */
  async exit(): Promise<unknown> {
    const [status, signal] = await this.#exited;
    return status ?? signal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.#exited;
  }
}

/** Names of every namespace of a run: those of its first process and those of its nodes and pods. */
export function namespacesOf(run: SandboxRun): string[] {
  const own = ['net', 'mnt', 'pid', 'ipc'].map((kind) => readlinkSync(`/proc/${run.world.pid}/ns/${kind}`));
  const folder = `/proc/${run.world.pid}/root/run/netns`;
  return [...own, ...readdirSync(folder).map((name) => `net:[${statSync(`${folder}/${name}`).ino}]`)];
}

/** Resolves when no process and no mount refers to the namespaces any more; rejects after ten seconds. */
export async function awaitGone(namespaces: readonly string[]): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const left = await findNamespaceUsers(namespaces);
    if (left.length === 0) return;
    if (Date.now() > deadline) throw new Error(`left behind:\n${left.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** True when the process of the run's world still exists. */
export async function isWorldAlive(run: SandboxRun): Promise<boolean> {
  return (await identifyProcess(run.world.pid))?.startTime === run.world.startTime;
}
