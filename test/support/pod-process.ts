/**
 * The application of a test pod: a child process inside the pod's network namespace that connects and listens on
 * behalf of the test. Sockets it opens or accepts are handed to the test process over the IPC channel, so a test holds
 * both ends of a connection as ordinary `net.Socket`s, although each was made in its own namespace.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { TestNamespace } from './netns.ts';
import { endProcess } from './netns.ts';
import { awaitEnd } from './socket-exchange.ts';

/** What the test asks of the child; answered by a message with the same `id`. */
export type PodRequest =
  | { readonly id: number; readonly op: 'connect'; readonly host: string; readonly port: number }
  | {
      readonly id: number;
      readonly op: 'listen';
      readonly host: string;
      readonly port: number;
      readonly mode: ServerMode;
    };

/** `double` answers each chunk twice and ends when the client ends; `hand-over` gives accepted sockets to the test. */
export type ServerMode = 'echo' | 'double' | 'hand-over';

export type PodAnswer =
  | { readonly kind: 'answer'; readonly id: number; readonly error?: string; readonly port?: number }
  | { readonly kind: 'accepted'; readonly port: number; readonly remoteAddress: string };

/** One listening port of a pod. */
export class PodServer {
  readonly port: number;
  /** Client addresses in the order of arrival. */
  readonly clients: string[] = [];
  readonly #sockets: Socket[] = [];
  #waiting: ((socket: Socket) => void)[] = [];

  constructor(port: number) {
    this.port = port;
  }

  accepted(remoteAddress: string, socket: Socket | undefined): void {
    this.clients.push(remoteAddress);
    if (socket === undefined) return;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#sockets.push(socket);
    else waiting(socket);
  }

  /** The next accepted socket of a `hand-over` server. */
  nextSocket(timeoutMs = 5000): Promise<Socket> {
    const socket = this.#sockets.shift();
    if (socket !== undefined) return Promise.resolve(socket);
    return new Promise((resolve, reject) => {
      const waiting = (arrived: Socket): void => {
        clearTimeout(timer);
        resolve(arrived);
      };
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
        reject(new Error(`no connection arrived on port ${this.port}`));
      }, timeoutMs);
      this.#waiting.push(waiting);
    });
  }
}

export class PodProcess {
  readonly #child: ChildProcess;
  readonly #answers = new Map<number, (answer: PodAnswer & { kind: 'answer' }, socket: Socket | undefined) => void>();
  readonly #servers = new Map<number, PodServer>();
  #nextId = 1;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message: PodAnswer, handle) => this.#receive(message, isSocket(handle) ? handle : undefined));
  }

  static async start(namespace: TestNamespace): Promise<PodProcess> {
    const script = fileURLToPath(new URL('./pod-process-child.ts', import.meta.url));
    const child = fork(script, [], {
      execPath: 'nsenter',
      execArgv: [`--net=${namespace.path}`, process.execPath],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const started = new PodProcess(child);
    namespace.own(child);
    await once(child, 'spawn');
    return started;
  }

  /** Connects from inside the pod; rejects with the error code of the system (`ECONNREFUSED`, ...). */
  async connect(host: string, port: number): Promise<Socket> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, (answer, socket) => {
        if (socket === undefined) reject(new Error(answer.error ?? 'no socket'));
        else resolve(socket);
      });
      this.#send({ id, op: 'connect', host, port });
    });
  }

  /**
   * Connects, sends some bytes and waits for the end: `ECONNREFUSED`, `ECONNRESET` or `end`. For calls that are expected
   * to be turned away, before or after the connection stands.
   */
  async attempt(host: string, port: number): Promise<string> {
    try {
      const socket = await this.connect(host, port);
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      const ended = await awaitEnd(socket);
      socket.destroy();
      return ended;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** Listens inside the pod, on all addresses unless `host` says otherwise. Port 0 takes any. */
  async listen(port: number, mode: ServerMode, host = '0.0.0.0'): Promise<PodServer> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, (answer) => {
        if (answer.port === undefined) return reject(new Error(answer.error ?? 'no port'));
        const server = new PodServer(answer.port);
        this.#servers.set(answer.port, server);
        resolve(server);
      });
      this.#send({ id, op: 'listen', host, port, mode });
    });
  }

  stop(): Promise<void> {
    return endProcess(this.#child);
  }

  #send(request: PodRequest): void {
    this.#child.send(request);
  }

  #receive(message: PodAnswer, socket: Socket | undefined): void {
    if (socket !== undefined) {
      socket.allowHalfOpen = true;
      socket.on('error', () => {});
    }
    if (message.kind === 'answer') {
      const resolve = this.#answers.get(message.id);
      this.#answers.delete(message.id);
      resolve?.(message, socket);
      return;
    }
    this.#servers.get(message.port)?.accepted(message.remoteAddress, socket);
  }
}

function isSocket(handle: unknown): handle is Socket {
  return typeof handle === 'object' && handle !== null && 'write' in handle;
}
