/** The check's end of a probe process (apps/probe.ts) in a pod: typed requests, answers, and closed-connection events. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { isRecord } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import { HOSTS_DIRECTORY, REPOSITORY_DIRECTORY } from '../layout.ts';
import type { Pod } from '../pod.ts';
import { podCommand } from '../pod-command.ts';

const ANSWER_DEADLINE_MS = 60_000;

type Fields = Readonly<Record<string, unknown>>;

export interface HttpAnswer {
  /** 0 when there was no answer; then `error` says why. */
  readonly status: number;
  /** The demo application's JSON. */
  readonly body: Fields;
  readonly error: string;
}

export interface EchoAnswer {
  readonly client: string;
  readonly sent: number;
  readonly received: number;
  readonly intact: boolean;
}

export class Probe {
  readonly pod: Pod;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, (answer: Fields) => void>();
  readonly #closed = new Map<string, PromiseWithResolvers<number>>();
  #nextId = 1;

  private constructor(pod: Pod) {
    this.pod = pod;
    const entry = `${REPOSITORY_DIRECTORY}/sandbox/apps/probe.ts`;
    const hosts = `${HOSTS_DIRECTORY}/${pod.template.namespace}`;
    const [program = '', ...args] = podCommand(pod.netns, hosts, [process.execPath, entry]);
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], cwd: REPOSITORY_DIRECTORY });
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#onLine(line));
  }

  /** Resolves when the process runs inside the pod. */
  static async start(pod: Pod): Promise<Probe> {
    const probe = new Probe(pod);
    const ready = Promise.withResolvers<Fields>();
    probe.#waiting.set(0, ready.resolve);
    probe.#child.once('exit', () => ready.reject(new AmbitError('SANDBOX', `the probe in ${pod.key} ended`)));
    await ready.promise;
    return probe;
  }

  /** `count` requests one after the other, each on a connection of its own. */
  async http(url: string, options: { readonly count?: number; readonly body?: string } = {}): Promise<HttpAnswer[]> {
    const { answers } = await this.#ask({ op: 'http', url, count: options.count ?? 1, body: options.body ?? '' });
    const list: readonly unknown[] = Array.isArray(answers) ? answers : [];
    return list.filter(isRecord).map((answer) => ({
      status: Number(answer.status),
      body: parseBody(answer.body),
      error: String(answer.error ?? ''),
    }));
  }

  /** True when one request was answered with status 200. */
  async reaches(url: string): Promise<boolean> {
    const [answer] = await this.http(url);
    return answer?.status === 200;
  }

  async echo(host: string, port: number, bytes: number): Promise<EchoAnswer> {
    const answer = await this.#ask({ op: 'echo', host, port, bytes });
    if (answer.error !== undefined)
      throw new AmbitError('SANDBOX', `echo from ${this.pod.key}: ${String(answer.error)}`);
    const { client, sent, received, intact } = answer;
    return { client: String(client), sent: Number(sent), received: Number(received), intact: intact === true };
  }

  /** Opens a connection that stays; throws when it cannot. */
  async open(name: string, host: string, port: number): Promise<void> {
    this.#closed.set(name, Promise.withResolvers<number>());
    const answer = await this.#ask({ op: 'open', name, host, port });
    if (answer.error !== undefined)
      throw new AmbitError('SANDBOX', `connection from ${this.pod.key}: ${String(answer.error)}`);
  }

  /** True when a byte went there and back on the live connection. */
  async isAlive(name: string): Promise<boolean> {
    return (await this.#ask({ op: 'ping', name })).error === undefined;
  }

  async close(name: string): Promise<void> {
    await this.#ask({ op: 'close', name });
  }

  /** Resolves with the time at which the live connection was ended by somebody else. */
  closedAt(name: string): Promise<number> {
    const closed = this.#closed.get(name);
    if (closed === undefined) throw new AmbitError('USAGE', `no connection ${name}`);
    return closed.promise;
  }

  async startLoad(url: string, rate: number): Promise<void> {
    await this.#ask({ op: 'load', url, rate });
  }

  async stopLoad(): Promise<{ readonly calls: number; readonly failed: number; readonly failures: string }> {
    const { calls, failed, failures } = await this.#ask({ op: 'stopLoad' });
    return { calls: Number(calls), failed: Number(failed), failures: JSON.stringify(failures) };
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.stdin.end();
    await exited;
  }

  #ask(request: Fields): Promise<Fields> {
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Fields>();
    const late = (): void =>
      reject(new AmbitError('SANDBOX', `the probe in ${this.pod.key} did not answer ${String(request.op)}`));
    const timer = setTimeout(late, ANSWER_DEADLINE_MS);
    this.#waiting.set(id, (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    this.#child.stdin.write(`${JSON.stringify({ id, ...request })}\n`);
    return promise;
  }

  #onLine(line: string): void {
    const message: unknown = JSON.parse(line);
    if (!isRecord(message)) return;
    if (message.event === 'closed') {
      this.#closed.get(String(message.name))?.resolve(Number(message.at));
      return;
    }
    const id = message.event === 'ready' ? 0 : Number(message.id);
    this.#waiting.get(id)?.(message);
    this.#waiting.delete(id);
  }
}

function parseBody(text: unknown): Fields {
  try {
    const value: unknown = JSON.parse(String(text));
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}
