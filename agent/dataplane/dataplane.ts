/**
 * The data plane as the main thread sees it: N workers that all hold the same state, identities and pods. It keeps what a
 * replacement needs to catch up (encoded resources, certificates, namespaces), so that a worker that dies is replaced
 * and the others never notice.
 */
import { randomBytes } from 'node:crypto';
import { Backoff } from '../../core/backoff.ts';
import { AmbitError, type ErrorCode, isErrorCode } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import type { ResourceFeed } from '../state/resource-feed.ts';
import type { FromWorker, LiveConnectionView, MessageProblem, ToWorker, WorkerMetrics } from './messages.ts';
import type { EnrolledPod, PodCapture } from './pod-capture.ts';
import { type WorkerEvents, WorkerHandle } from './worker-handle.ts';
import type { WorkerSettings } from './worker-settings.ts';

const log = logger('dataplane');

/** Opening listeners takes milliseconds; this bounds a worker that hangs. */
const LISTEN_TIMEOUT_MS = 10_000;
const TICKET_KEY_BYTES = 80;
/** A worker whose loop hangs is noticed after MAX_SILENCE intervals. */
const WATCH_INTERVAL_MS = 5000;
const MAX_SILENCE = 3;
/** A worker that dies again and again is restarted later and later, until one has lived for a while. */
const RESTART_BACKOFF = { firstMs: 100, maxMs: 10_000 };
const STABLE_AFTER_MS = 30_000;

export interface DataplaneOptions {
  readonly workers: number;
  readonly settings: WorkerSettings;
  /** Every worker gets everything of it, now and later. */
  readonly feed: ResourceFeed;
  /** A connection waits for this identity's certificate. */
  readonly onNeedIdentity: (identity: SpiffeId) => void;
}

interface CapturedPod {
  readonly pod: EnrolledPod;
  readonly netns: NetworkNamespace;
}

/** Workers that have not answered yet, and what to do when all have or one refused. */
interface Pending {
  readonly waiting: Set<number>;
  readonly settle: (problem: MessageProblem | undefined) => void;
}

export class Dataplane implements PodCapture, WorkerEvents {
  readonly #options: DataplaneOptions;
  readonly #workers: WorkerHandle[] = [];
  readonly #pods = new Map<string, CapturedPod>();
  readonly #identities = new Map<SpiffeId, TlsMaterial>();
  readonly #unsubscribe: () => void;
  readonly #watchdog: NodeJS.Timeout;
  /** Questions a worker left unanswered in a row, by index. */
  readonly #silence: number[] = [];
  readonly #listening = new Map<string, Pending>();
  readonly #leaving = new Map<string, Pending>();
  readonly #ticketKeys = randomBytes(TICKET_KEY_BYTES);
  #drained: Pending | undefined;
  #cut = 0;
  #restarts = 0;
  readonly #backoff = new Backoff(RESTART_BACKOFF);
  #lastDeathMs = Number.NEGATIVE_INFINITY;
  #stopping = false;
  #podsStarted = 0;
  #podsStopped = 0;
  readonly #ready: Promise<void>;
  readonly #unready: Pending;

  constructor(options: DataplaneOptions) {
    this.#options = options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#ready = promise;
    // Nobody may be waiting when the data plane is stopped during the start.
    promise.catch(() => undefined);
    this.#unready = {
      waiting: new Set(Array.from({ length: options.workers }, (_, index) => index)),
      settle: (problem) => (problem === undefined ? resolve() : reject(toError(problem))),
    };
    for (let index = 0; index < options.workers; index++) this.#startWorker(index);
    this.#watchdog = setInterval(() => void this.#watch(), WATCH_INTERVAL_MS);
    this.#watchdog.unref();
    this.#unsubscribe = options.feed.subscribe((update) => this.#broadcast({ kind: 'resources', update }));
  }

  /** Resolves when every worker's loop runs; rejects when one cannot even start. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  get counts(): { restarts: number; podsStarted: number; podsStopped: number } {
    return { restarts: this.#restarts, podsStarted: this.#podsStarted, podsStopped: this.#podsStopped };
  }

  pods(): EnrolledPod[] {
    return Array.from(this.#pods.values(), ({ pod }) => pod);
  }

  async addPod(pod: EnrolledPod, netnsFd: number): Promise<void> {
    const netns = NetworkNamespace.openPath(`/proc/self/fd/${netnsFd}`);
    const known = this.#pods.get(pod.uid);
    if (known !== undefined) {
      if (isSameNamespace(known.netns, netns) && (await this.isListening(pod.uid))) {
        netns.close();
        return;
      }
      await this.removePod(pod.uid);
    }
    this.#pods.set(pod.uid, { pod, netns });
    // A worker that is being replaced answers when its successor listens.
    const all = new Set(this.#workers.map((worker) => worker.index));
    const problem = await this.#everyWorker(this.#listening, pod.uid, { kind: 'pod', pod, netnsFd: netns.fd }, all);
    if (problem === undefined) {
      this.#podsStarted++;
      return;
    }
    await this.removePod(pod.uid);
    throw toError(problem);
  }

  async removePod(uid: string): Promise<void> {
    const known = this.#pods.get(uid);
    if (known === undefined) return;
    this.#pods.delete(uid);
    await this.#everyWorker(this.#leaving, uid, { kind: 'podRemoved', uid }, this.#living());
    known.netns.close();
    this.#podsStopped++;
  }

  async isListening(uid: string): Promise<boolean> {
    if (!this.#pods.has(uid)) return false;
    const answers = await Promise.all(this.#workers.map((worker) => worker.isListening(uid)));
    return answers.every((listening) => listening);
  }

  putIdentity(identity: SpiffeId, material: TlsMaterial): void {
    this.#identities.set(identity, material);
    this.#broadcast({ kind: 'identity', identity, material });
  }

  /** `detail`: why there is no certificate; empty when nobody needs the identity any more. */
  removeIdentity(identity: SpiffeId, detail: string): void {
    this.#identities.delete(identity);
    this.#broadcast({ kind: 'identityGone', identity, detail });
  }

  async collect(): Promise<WorkerMetrics[]> {
    const answers = await Promise.all(this.#workers.map((worker) => worker.collect()));
    return answers.filter((answer) => answer !== undefined);
  }

  async connections(): Promise<LiveConnectionView[]> {
    return (await Promise.all(this.#workers.map((worker) => worker.connections()))).flat();
  }

  /** Ends all connections, those that do not end by themselves after `graceMs` by force; returns how many were cut. */
  async drain(graceMs: number): Promise<number> {
    this.#stopping = true;
    this.#cut = 0;
    await new Promise<void>((resolve) => {
      const overdue = setTimeout(resolve, graceMs + LISTEN_TIMEOUT_MS);
      const drained: Pending = {
        waiting: this.#living(),
        settle: () => {
          clearTimeout(overdue);
          resolve();
        },
      };
      this.#drained = drained;
      if (drained.waiting.size === 0) drained.settle(undefined);
      this.#broadcast({ kind: 'drain', graceMs });
    });
    return this.#cut;
  }

  /** Ends the workers and releases every namespace. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#unsubscribe();
    clearInterval(this.#watchdog);
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    for (const { netns } of this.#pods.values()) netns.close();
    this.#pods.clear();
  }

  /** Ends one worker and replaces it; its connections are lost. For a worker whose loop hangs. */
  async replaceWorker(index: number): Promise<void> {
    await this.#workers[index]?.kill();
  }

  onMessage(worker: WorkerHandle, message: FromWorker): void {
    switch (message.kind) {
      case 'ready':
        answered(this.#unready, worker.index, undefined);
        return;
      case 'podListening':
        this.#answeredFor(this.#listening, message.uid, worker.index, message.problem);
        return;
      case 'podGone':
        this.#answeredFor(this.#leaving, message.uid, worker.index, undefined);
        return;
      case 'needIdentity':
        this.#options.onNeedIdentity(message.identity);
        return;
      case 'drained':
        this.#cut += message.cut;
        if (this.#drained !== undefined) answered(this.#drained, worker.index, undefined);
        return;
      default:
        // Answers to questions end in the handle.
        return;
    }
  }

  onDied(worker: WorkerHandle, error: Error | undefined): void {
    log.error({ worker: worker.index, err: error }, 'a data plane worker died and is replaced');
    if (this.#unready.waiting.has(worker.index)) {
      const detail = `a data plane worker cannot start: ${error?.message ?? 'it ended'}`;
      this.#unready.settle({ code: 'WORKER', detail });
    }
    for (const [uid] of this.#leaving) this.#answeredFor(this.#leaving, uid, worker.index, undefined);
    if (this.#drained !== undefined) answered(this.#drained, worker.index, undefined);
    if (this.#stopping) return;
    this.#restarts++;
    if (performance.now() - this.#lastDeathMs > STABLE_AFTER_MS) this.#backoff.reset();
    this.#lastDeathMs = performance.now();
    setTimeout(() => this.#replaceWorker(worker.index), this.#backoff.nextDelayMs());
  }

  /** Tells a new worker everything the others know; messages wait until its loop runs. */
  #replaceWorker(index: number): void {
    if (this.#stopping) return;
    const worker = this.#startWorker(index);
    for (const [identity, material] of this.#identities) worker.send({ kind: 'identity', identity, material });
    for (const update of this.#options.feed.store.snapshot()) worker.send({ kind: 'resources', update });
    for (const { pod, netns } of this.#pods.values()) worker.send({ kind: 'pod', pod, netnsFd: netns.fd });
  }

  #startWorker(index: number): WorkerHandle {
    const worker = new WorkerHandle(index, this.#options.settings, this);
    this.#workers[index] = worker;
    worker.send({ kind: 'ticketKeys', keys: this.#ticketKeys });
    return worker;
  }

  async #watch(): Promise<void> {
    for (const worker of [...this.#workers]) {
      const silence = (await worker.isAlive()) ? 0 : (this.#silence[worker.index] ?? 0) + 1;
      this.#silence[worker.index] = silence;
      if (silence < MAX_SILENCE || this.#stopping) continue;
      this.#silence[worker.index] = 0;
      log.error({ worker: worker.index }, 'a data plane worker does not answer and is ended');
      await this.replaceWorker(worker.index);
    }
  }

  #living(): Set<number> {
    return new Set(this.#workers.filter((worker) => !worker.gone).map((worker) => worker.index));
  }

  #broadcast(message: ToWorker): void {
    for (const worker of this.#workers) worker.send(message);
  }

  async #everyWorker(
    pending: Map<string, Pending>,
    uid: string,
    message: ToWorker,
    waiting: Set<number>,
  ): Promise<MessageProblem | undefined> {
    if (waiting.size === 0) return undefined;
    const problem = await new Promise<MessageProblem | undefined>((resolve) => {
      const overdue = setTimeout(resolve, LISTEN_TIMEOUT_MS, {
        code: 'SYSTEM_CALL',
        detail: 'a data plane worker did not answer',
      });
      pending.set(uid, {
        waiting,
        settle: (found) => {
          clearTimeout(overdue);
          resolve(found);
        },
      });
      this.#broadcast(message);
    });
    pending.delete(uid);
    return problem;
  }

  #answeredFor(pending: Map<string, Pending>, uid: string, index: number, problem: MessageProblem | undefined): void {
    const entry = pending.get(uid);
    if (entry !== undefined) answered(entry, index, problem);
  }
}

function answered(pending: Pending, index: number, problem: MessageProblem | undefined): void {
  pending.waiting.delete(index);
  if (problem !== undefined || pending.waiting.size === 0) pending.settle(problem);
}

function isSameNamespace(a: NetworkNamespace, b: NetworkNamespace): boolean {
  return a.inode === b.inode && a.device === b.device;
}

function toError({ code, detail }: MessageProblem): AmbitError {
  const known: ErrorCode = isErrorCode(code) ? code : 'SYSTEM_CALL';
  return new AmbitError(known, detail);
}
