/**
 * A real agent process inside a test namespace: started as an operator would, its access log and its own log collected,
 * its admin pages read from inside the namespace.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.ts';
import type { TestNamespace } from './netns.ts';
import { endProcess } from './netns.ts';

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));

export interface AgentProcessOptions {
  /** The file to run; by default the sources. */
  readonly program?: string;
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Command that runs the agent, for example with fewer capabilities. */
  readonly wrapper?: readonly string[];
}

export type AgentLine = Readonly<Record<string, unknown>>;

export class AgentProcess {
  readonly child: ChildProcess;
  readonly #namespace: TestNamespace;
  readonly #accessLog: string[] = [];
  readonly #log: string[] = [];

  private constructor(namespace: TestNamespace, child: ChildProcess) {
    this.#namespace = namespace;
    this.child = child;
    collectLines(child.stdout, this.#accessLog);
    collectLines(child.stderr, this.#log);
  }

  /** Resolves when the agent reports ready. */
  static async start(namespace: TestNamespace, options: AgentProcessOptions = {}): Promise<AgentProcess> {
    const agent = AgentProcess.launch(namespace, options);
    await eventually('the agent is ready', () => agent.#requireReady(), 15_000);
    return agent;
  }

  /** Starts without waiting. */
  static launch(namespace: TestNamespace, options: AgentProcessOptions = {}): AgentProcess {
    const { PATH = '' } = process.env;
    const [command = process.execPath, ...rest] = [
      ...(options.wrapper ?? []),
      process.execPath,
      options.program ?? MAIN,
    ];
    const child = namespace.spawn(command, [...rest, ...(options.args ?? [])], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH, LOG_FORMAT: 'json', AMBIT_WORKERS: '2', ...options.environment },
    });
    return new AgentProcess(namespace, child);
  }

  /** Body of a page of the agent, fetched inside its namespace; throws when the status is not 2xx. */
  get(port: number, path: string): string {
    return this.#namespace.exec('curl', '-sSf', '--max-time', '5', `http://127.0.0.1:${port}${path}`);
  }

  accessLog(): AgentLine[] {
    return this.#accessLog.map((line) => JSON.parse(line));
  }

  /** Everything the agent wrote to standard error. */
  log(): readonly string[] {
    return this.#log;
  }

  async awaitLines(count: number, matches: (line: AgentLine) => boolean): Promise<AgentLine[]> {
    return eventually(`${count} access log lines`, () => {
      const lines = this.accessLog().filter(matches);
      assert.equal(lines.length, count, this.#accessLog.join('\n'));
      return lines;
    });
  }

  /** Value of a metric whose series contains every given text, summed. */
  metric(name: string, ...labels: readonly string[]): number {
    const lines = this.get(15020, '/metrics').split('\n');
    const found = lines.filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)));
    return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  /** SIGTERM; the exit status. */
  async stop(): Promise<number | null> {
    await endProcess(this.child, 15_000);
    return this.child.exitCode;
  }

  /** SIGKILL: nothing is cleaned up. */
  async kill(): Promise<void> {
    const gone = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
    this.child.kill('SIGKILL');
    await gone;
  }

  #requireReady(): void {
    assert.equal(this.child.exitCode, null, this.#log.join('\n'));
    this.get(15021, '/healthz/ready');
  }
}

function collectLines(stream: NodeJS.ReadableStream | null, lines: string[]): void {
  let rest = '';
  stream?.setEncoding('utf8');
  stream?.on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  });
}
