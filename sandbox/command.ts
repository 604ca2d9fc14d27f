/**
 * Runs system tools: one command, its input, its output, a time limit. Optionally inside a network namespace, through
 * nsenter. No shell is involved, so nothing needs quoting.
 */
import { spawn } from 'node:child_process';
import { AmbitError, type ErrorCode } from '../core/errors.ts';
import { netnsPath } from './layout.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface CommandOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Name under /run/netns to run in; absent: the caller's own namespace. */
  readonly netns?: string;
  readonly timeoutMs?: number;
}

export interface CommandResult {
  /** Exit status; -1 when it was killed, 127 when the program is missing. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Resolves whatever the exit status is; output beyond 16 MiB is cut. */
export function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program = '', ...args] = inNetns(options.netns, argv);
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: options.env === undefined ? process.env : { ...process.env, ...options.env },
      timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const stdout = new Output();
    const stderr = new Output();
    child.stdout.on('data', (chunk: Buffer) => stdout.add(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.add(chunk));
    // A program that ends without reading its input is no failure by itself.
    child.stdin.on('error', () => {});
    child.on('error', (error) => resolve({ status: 127, stdout: '', stderr: error.message }));
    child.on('close', (status) => resolve({ status: status ?? -1, stdout: stdout.text(), stderr: stderr.text() }));
    child.stdin.end(options.input ?? '');
  });
}

/** Standard output of a command that must succeed; throws `SANDBOX` (or `code`) quoting its standard error. */
export async function requireCommand(
  argv: readonly string[],
  options: CommandOptions = {},
  code: ErrorCode = 'SANDBOX',
): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.status === 0) return result.stdout;
  const where = options.netns === undefined ? '' : ` (in ${options.netns})`;
  const said = (result.stderr.trim() || result.stdout.trim() || `exit status ${result.status}`).slice(0, 2000);
  throw new AmbitError(code, `${argv.join(' ')}${where}: ${said}`);
}

/** The command line that runs `argv` in a network namespace. */
export function inNetns(netns: string | undefined, argv: readonly string[]): readonly string[] {
  return netns === undefined ? argv : ['nsenter', `--net=${netnsPath(netns)}`, '--', ...argv];
}

class Output {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  add(chunk: Buffer): void {
    if (this.#bytes >= MAX_OUTPUT_BYTES) return;
    this.#bytes += chunk.length;
    this.#chunks.push(chunk);
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}
