/**
 * One worker thread as the main thread sees it: start, messages with a wake-up after each, questions with a time limit,
 * end. When the thread is gone its descriptors are closed (reclaim-descriptors.ts), so that no listener without anybody
 * behind it stays in a SO_REUSEPORT group.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { signalWakeUp } from '../../reactor/wake-up.ts';
import type { FromWorker, LentListener, LiveConnectionView, ToWorker, WorkerMetrics, WorkerStart } from './messages.ts';
import { reclaimDescriptors } from './reclaim-descriptors.ts';
import type { WorkerSettings } from './worker-settings.ts';

/** Beside this file: as a source, or as the other bundle of agent/build.ts. */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
/** A worker that does not answer a question within this time is left out of the answer. */
const ANSWER_TIMEOUT_MS = 1000;

export interface WorkerEvents {
  onMessage(worker: WorkerHandle, message: FromWorker): void;
  /** The thread ended although nobody asked it to; its descriptors are closed already. */
  onDied(worker: WorkerHandle, error: Error | undefined): void;
}

export class WorkerHandle {
  readonly index: number;
  readonly #events: WorkerEvents;
  readonly #thread: Worker;
  readonly #port: MessagePort;
  readonly #questions = new Map<number, (answer: FromWorker | undefined) => void>();
  /** Messages from before the loop ran. */
  #early: ToWorker[] | undefined = [];
  #wakeUpFd = -1;
  #nextRequest = 1;
  #stopping = false;
  #gone = false;
  #error: Error | undefined;
  readonly #exited: Promise<void>;

  /** `descriptors`: how many the worker may use. */
  constructor(index: number, settings: WorkerSettings, descriptors: number, events: WorkerEvents) {
    this.index = index;
    this.#events = events;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const workerData: WorkerStart = { index, settings, descriptors, port: port2 };
    this.#thread = new Worker(WORKER, { workerData, transferList: [port2] });
    port1.on('message', (message: FromWorker) => this.#receive(message));
    this.#thread.on('error', (error) => {
      this.#error = error instanceof Error ? error : new Error(String(error));
    });
    this.#exited = new Promise((resolve) => {
      this.#thread.once('exit', () => {
        this.#onExit();
        resolve();
      });
    });
  }

  /** The thread has ended. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Does nothing once the worker was told to stop: its wake-up may be closed and the number taken by another file. */
  send(message: ToWorker): void {
    if (this.#stopping) return;
    if (this.#early !== undefined) {
      this.#early.push(message);
      return;
    }
    this.#deliver(message);
  }

  /** True when the worker's loop answers. */
  async isAlive(): Promise<boolean> {
    const answer = await this.#ask((request) => ({ kind: 'ping', request }));
    return answer?.kind === 'pong';
  }

  async collect(): Promise<WorkerMetrics | undefined> {
    const answer = await this.#ask((request) => ({ kind: 'collect', request }));
    return answer?.kind === 'collected' ? answer.metrics : undefined;
  }

  async connections(): Promise<readonly LiveConnectionView[]> {
    const answer = await this.#ask((request) => ({ kind: 'connections', request }));
    return answer?.kind === 'connectionList' ? answer.connections : [];
  }

  async isListening(uid: string): Promise<boolean> {
    const answer = await this.#ask((request) => ({ kind: 'listening', request, uid }));
    return answer?.kind === 'listeningAnswer' && answer.listening;
  }

  /** Its listening sockets, which take no connections until `keepListeners` or `retire`. */
  async lendListeners(): Promise<readonly LentListener[]> {
    const answer = await this.#ask((request) => ({ kind: 'lendListeners', request }));
    return answer?.kind === 'lentListeners' ? answer.listeners : [];
  }

  /** Ends the thread without asking it; it counts as having died. */
  async kill(): Promise<void> {
    await this.#thread.terminate();
  }

  /** Ends the thread; resolves when it is gone. */
  async stop(): Promise<void> {
    this.send({ kind: 'stop' });
    this.#stopping = true;
    const insist = setTimeout(() => void this.#thread.terminate(), 2 * ANSWER_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(insist);
  }

  #ask(question: (request: number) => ToWorker): Promise<FromWorker | undefined> {
    const request = this.#nextRequest++;
    return new Promise((resolve) => {
      const settle = (answer: FromWorker | undefined): void => {
        clearTimeout(timer);
        this.#questions.delete(request);
        resolve(answer);
      };
      const timer = setTimeout(settle, ANSWER_TIMEOUT_MS, undefined);
      this.#questions.set(request, settle);
      this.send(question(request));
    });
  }

  #deliver(message: ToWorker): void {
    if (this.#wakeUpFd < 0) return;
    this.#port.postMessage(message);
    signalWakeUp(this.#wakeUpFd);
  }

  #receive(message: FromWorker): void {
    if (message.kind === 'ready') {
      this.#wakeUpFd = message.wakeUpFd;
      const early = this.#early ?? [];
      this.#early = undefined;
      for (const waiting of early) this.#deliver(waiting);
    }
    if ('request' in message) this.#questions.get(message.request)?.(message);
    else this.#events.onMessage(this, message);
  }

  #onExit(): void {
    this.#gone = true;
    if (this.#wakeUpFd >= 0 && !this.#stopping) reclaimDescriptors(this.#wakeUpFd);
    this.#wakeUpFd = -1;
    this.#early = undefined;
    this.#port.close();
    for (const settle of [...this.#questions.values()]) settle(undefined);
    if (!this.#stopping) this.#events.onDied(this, this.#error);
  }
}
