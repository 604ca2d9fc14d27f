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
import type { KnownRevocations } from '../state/revocation-file.ts';
import { descriptorsPerWorker } from './connection-seats.ts';
import type { CutByPod, DrainResult } from './drain.ts';
import { Inheritance } from './inheritance.ts';
import { mergeMetrics } from './merge-metrics.ts';
import type {
  FromWorker,
  LentListener,
  LiveConnectionView,
  MessageProblem,
  ToWorker,
  WorkerMetrics,
} from './messages.ts';
import type { EnrolledPod, PodCapture } from './pod-capture.ts';
import { WorkerAnswers } from './worker-answers.ts';
import { type WorkerEvents, WorkerHandle } from './worker-handle.ts';
import type { WorkerSettings } from './worker-settings.ts';

const log = logger('dataplane');

/** Listeners open and close in milliseconds; this bounds a worker that hangs. */
const ANSWER_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 60_000;
/** Keys of waits that are not about a pod; no uid looks like them. */
const READY = '\u0000ready';
const DRAINED = '\u0000drained';
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
  leaving: boolean;
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
  /** Keys: READY, and the uid of a pod that is to be listened for; a replacement answers for its predecessor. */
  readonly #arrivals = new WorkerAnswers();
  /** Keys: DRAINED, and the uid of a pod that is to be let go; a dead worker has done both. */
  readonly #departures = new WorkerAnswers();
  readonly #inheritance = new Inheritance();
  #ticketKeys = randomBytes(TICKET_KEY_BYTES);
  #revocations: KnownRevocations = { keys: [], problem: undefined };
  /** By worker: the last answer, and what its dead predecessors had counted. */
  readonly #lastMetrics = new Map<number, WorkerMetrics>();
  readonly #former = new Map<number, WorkerMetrics>();
  readonly #descriptors: number;
  #drained: DrainResult = { ended: 0, cut: 0 };
  readonly #cutByPod = new Map<string, number>();
  #restarts = 0;
  readonly #backoff = new Backoff(RESTART_BACKOFF);
  #lastDeathMs = Number.NEGATIVE_INFINITY;
  #stopping = false;
  #podsStarted = 0;
  #podsStopped = 0;
  readonly #ready: Promise<void>;
  #isReady = false;

  constructor(options: DataplaneOptions) {
    this.#options = options;
    this.#descriptors = descriptorsPerWorker(options.workers);
    for (let index = 0; index < options.workers; index++) this.#startWorker(index);
    this.#watchdog = setInterval(() => void this.#watch(), WATCH_INTERVAL_MS);
    this.#watchdog.unref();
    this.#unsubscribe = options.feed.subscribe((update) => this.#broadcast({ kind: 'resources', update }));
    this.#ready = this.#awaitStart();
    // Nobody may be waiting when the data plane is stopped during the start.
    this.#ready.catch(() => undefined);
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

  /**
   * Sets what is revoked, for live tunnels too. Tickets of before are not taken any more: who resumes a session shows its
   * leaf alone, so that every chain has to be seen whole once under the new lists.
   */
  setRevocations(known: KnownRevocations): void {
    this.#revocations = known;
    this.#ticketKeys = randomBytes(TICKET_KEY_BYTES);
    this.#broadcast({ kind: 'ticketKeys', keys: this.#ticketKeys });
    this.#broadcast({ kind: 'revocations', ...known });
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
    this.#pods.set(pod.uid, { pod, netns, leaving: false });
    const answers = this.#arrivals.expect(pod.uid, this.#workers.keys(), ANSWER_TIMEOUT_MS);
    const inherited = this.#inheritance.take(pod.uid, this.#workers.length);
    for (const worker of this.#workers) {
      worker.send({ kind: 'pod', pod, netnsFd: netns.fd, inherited: inherited[worker.index] ?? [] });
    }
    const problem = await answers;
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
    const answers = this.#departures.expect(uid, this.#living(), ANSWER_TIMEOUT_MS);
    this.#broadcast({ kind: 'podRemoved', uid });
    await answers;
    known.netns.close();
    this.#podsStopped++;
  }

  setLeaving(uid: string, leaving: boolean): void {
    const known = this.#pods.get(uid);
    if (known === undefined) return;
    known.leaving = leaving;
    this.#broadcast({ kind: 'podLeaving', uid, leaving });
  }

  async countConnections(uid: string): Promise<number> {
    return (await this.connections()).filter(({ podUid }) => podUid === uid).length;
  }

  /** Pods that are led to over the shortcut of one node. */
  stayingPods(): EnrolledPod[] {
    return Array.from(this.#pods.values()).flatMap(({ pod, leaving }) => (leaving ? [] : [pod]));
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
    return answers.flatMap((answer) => {
      if (answer === undefined) return [];
      const former = this.#former.get(answer.worker);
      const metrics = former === undefined ? answer : mergeMetrics(former, answer);
      this.#lastMetrics.set(answer.worker, metrics);
      return [metrics];
    });
  }

  async connections(): Promise<LiveConnectionView[]> {
    return (await Promise.all(this.#workers.map((worker) => worker.connections()))).flat();
  }

  /** The listening sockets of all pods, for a successor. They take no connections until `keepListeners` or `retire`. */
  async lendListeners(): Promise<LentListener[]> {
    return (await Promise.all(this.#workers.map((worker) => worker.lendListeners()))).flat();
  }

  /** The successor did not take them. */
  keepListeners(): void {
    this.#broadcast({ kind: 'keepListeners' });
  }

  /** The successor has them: no new connections here, those that live end in their own time (or by `drain`). */
  retire(): void {
    this.#stopping = true;
    this.#broadcast({ kind: 'retire' });
  }

  /** Listening sockets of a predecessor: pods that are added go on with theirs. Owns the descriptors. */
  inherit(listeners: readonly LentListener[]): void {
    this.#inheritance.put(listeners);
  }

  /** Every pod that is to be taken up was; sockets that nobody wanted are closed. */
  endInheritance(): void {
    this.#inheritance.end();
  }

  /** Ends all connections within `graceMs`: in order where they are idle near its end, by force what is busy then. */
  async drain(graceMs: number): Promise<DrainResult> {
    this.#stopping = true;
    this.#drained = { ended: 0, cut: 0 };
    const answers = this.#departures.expect(DRAINED, this.#living(), graceMs + ANSWER_TIMEOUT_MS);
    this.#broadcast({ kind: 'drain', graceMs });
    await answers;
    return this.#drained;
  }

  /** Connections that `drain` cut, by uid of their pod. */
  get cutByPod(): CutByPod {
    return this.#cutByPod;
  }

  /** Ends the workers and releases every namespace. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#unsubscribe();
    clearInterval(this.#watchdog);
    this.#inheritance.end();
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
        this.#arrivals.answer(READY, worker.index);
        return;
      case 'podListening':
        this.#arrivals.answer(message.uid, worker.index, message.problem);
        return;
      case 'podGone':
        this.#departures.answer(message.uid, worker.index);
        return;
      case 'needIdentity':
        this.#options.onNeedIdentity(message.identity);
        return;
      case 'drained':
        this.#drained = {
          ended: this.#drained.ended + message.ended,
          cut: this.#drained.cut + message.cut,
        };
        for (const [uid, cut] of message.cutByPod) this.#cutByPod.set(uid, (this.#cutByPod.get(uid) ?? 0) + cut);
        this.#departures.answer(DRAINED, worker.index);
        return;
      default:
        // Answers to questions end in the handle.
        return;
    }
  }

  onDied(worker: WorkerHandle, error: Error | undefined): void {
    log.error({ worker: worker.index, err: error }, 'a data plane worker died and is replaced');
    const detail = `a data plane worker cannot start: ${error?.message ?? 'it ended'}`;
    if (!this.#isReady) this.#arrivals.answer(READY, worker.index, { code: 'WORKER', detail });
    this.#departures.answerAll(worker.index);
    const counted = this.#lastMetrics.get(worker.index);
    if (counted !== undefined) this.#former.set(worker.index, counted);
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
    for (const update of this.#options.feed.snapshot()) worker.send({ kind: 'resources', update });
    for (const { pod, netns, leaving } of this.#pods.values()) {
      worker.send({ kind: 'pod', pod, netnsFd: netns.fd });
      if (leaving) worker.send({ kind: 'podLeaving', uid: pod.uid, leaving });
    }
  }

  #startWorker(index: number): WorkerHandle {
    const worker = new WorkerHandle(index, this.#options.settings, this.#descriptors, this);
    this.#workers[index] = worker;
    worker.send({ kind: 'ticketKeys', keys: this.#ticketKeys });
    worker.send({ kind: 'revocations', ...this.#revocations });
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

  async #awaitStart(): Promise<void> {
    const problem = await this.#arrivals.expect(READY, this.#workers.keys(), START_TIMEOUT_MS);
    this.#isReady = true;
    if (problem !== undefined) throw toError(problem);
  }

  #living(): number[] {
    return this.#workers.filter((worker) => !worker.gone).map((worker) => worker.index);
  }

  #broadcast(message: ToWorker): void {
    for (const worker of this.#workers) worker.send(message);
  }
}

function isSameNamespace(a: NetworkNamespace, b: NetworkNamespace): boolean {
  return a.inode === b.inode && a.device === b.device;
}

function toError({ code, detail }: MessageProblem): AmbitError {
  const known: ErrorCode = isErrorCode(code) ? code : 'SYSTEM_CALL';
  return new AmbitError(known, detail);
}
