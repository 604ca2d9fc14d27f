/**
 * A long-running child of the sandbox: its lines, its restarts, its end.
 *
 * States: stopped -> running -> (exited, waiting) -> running ... -> stopped. After an exit nobody asked for it is
 * started again with back-off, unless it is held. The last lines of both outputs are kept for diagnosis (bounded).
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { Backoff } from '../core/backoff.ts';
import { inNetns } from './command.ts';
import { REPOSITORY_DIRECTORY } from './layout.ts';

const KEPT_LINES = 400;
const TERMINATE_DEADLINE_MS = 4000;
/** A process that ran this long has proved itself: the back-off starts over. */
const STABLE_AFTER_MS = 5000;

export interface ProcessOptions {
  /** For messages and `ambit sandbox logs`. */
  readonly name: string;
  readonly argv: readonly string[];
  readonly netns?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of standard output. */
  readonly onLine?: (line: string) => void;
  /** Called after every exit, also the wanted ones. */
  readonly onExit?: (description: string, wanted: boolean) => void;
}

export class SupervisedProcess {
  readonly name: string;
  readonly #options: ProcessOptions;
  readonly #backoff = new Backoff({ firstMs: 500, maxMs: 5000 });
  readonly #lines: string[] = [];
  #child: ChildProcessByStdio<null, Readable, Readable> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stable: NodeJS.Timeout | undefined;
  #wanted = false;
  #held = false;
  #starts = 0;

  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Of the running process; undefined between two lives. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** How many times it was started again. */
  get restarts(): number {
    return Math.max(0, this.#starts - 1);
  }

  /** The last lines it wrote, oldest first. */
  get recentLines(): readonly string[] {
    return this.#lines;
  }

  start(): void {
    this.#wanted = true;
    this.#held = false;
    if (this.#child === undefined) this.#spawn();
  }

  /** Ends the process (SIGTERM, after four seconds SIGKILL) and keeps it ended. */
  async stop(): Promise<void> {
    this.#wanted = false;
    await this.#end('SIGTERM');
  }

  /** Kills it at once; the supervisor starts it again unless `hold` is set, until `start`. */
  async kill(options: { hold: boolean }): Promise<void> {
    this.#held = options.hold;
    await this.#end('SIGKILL');
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const child = this.#child;
    if (child === undefined) {
      if (this.#wanted && !this.#held) this.#spawn();
      return;
    }
    const exited = once(child, 'exit');
    child.kill(signal);
    const deadline = setTimeout(() => child.kill('SIGKILL'), TERMINATE_DEADLINE_MS);
    await exited;
    clearTimeout(deadline);
  }

  #spawn(): void {
    const [program = '', ...args] = inNetns(this.#options.netns, this.#options.argv);
    this.#starts++;
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: REPOSITORY_DIRECTORY,
      env: { ...process.env, ...this.#options.env },
      // Out of the terminal's process group: Ctrl-C reaches only the sandbox, which then ends everything in order.
      detached: true,
    });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#keep(line);
      this.#options.onLine?.(line);
    });
    createInterface({ input: child.stderr }).on('line', (line) => this.#keep(line));
    child.once('error', (error) => this.#keep(`cannot start: ${error.message}`));
    child.once('exit', (status, signal) => this.#exited(signal ?? `status ${status}`));
    this.#stable = setTimeout(() => this.#backoff.reset(), STABLE_AFTER_MS);
  }

  #exited(description: string): void {
    clearTimeout(this.#stable);
    this.#child = undefined;
    this.#options.onExit?.(description, !this.#wanted);
    if (!this.#wanted || this.#held) return;
    this.#timer = setTimeout(() => this.#spawn(), this.#backoff.nextDelayMs());
  }

  #keep(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.splice(0, this.#lines.length - KEPT_LINES);
  }
}
