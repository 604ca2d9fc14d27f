/**
 * Keeps a receiver equal to a selection of objects of the API server: lists in pages, then watches from there on.
 *
 *   list pages ──► replaced ──► watch ──► changed / removed ... ──┐
 *      ▲                          ▲                                │ the server ends it, it breaks, is silent
 *      └─ 410, senseless event ───┴────────── resume ◄─────────────┘
 *
 * A watch resumes behind the last event or bookmark it saw. It never gives up; what keeps it from being current is told
 * through `degraded` once and again when it changes. Of a list only what `read` keeps of each object is held.
 */
import { Backoff } from '../core/backoff.ts';
import { toAmbitError } from '../core/errors.ts';
import { isGone, isNotFound, isUnreachable, KubernetesApiError } from './api-error.ts';
import { type KubeClient, PAGE_SIZE, type Selection } from './client.ts';
import type { Resource } from './resource.ts';
import { sleep } from './sleep.ts';
import type { WatchEvent } from './watch.ts';

export interface ReflectorTimes {
  readonly firstBackoffMs: number;
  readonly maxBackoffMs: number;
  /** As `maxBackoffMs`, while the server does not know the resource: it may be installed any moment. */
  readonly absentBackoffMs: number;
  /** The server is asked to end watches after this, and up to as much again by chance. */
  readonly watchSeconds: number;
  readonly silenceMs: number;
  /** A watch that stood this long was a success: the next failure begins with the first back-off. */
  readonly healthyMs: number;
  /** A watch that broke and could not be resumed for this long is told. */
  readonly patienceMs: number;
}

export const REFLECTOR_TIMES: ReflectorTimes = {
  firstBackoffMs: 200,
  maxBackoffMs: 30_000,
  absentBackoffMs: 5_000,
  watchSeconds: 300,
  // Bookmarks come about once a minute where there is anything to mark; a quiet watch is opened again, which costs little.
  silenceMs: 150_000,
  healthyMs: 1_000,
  patienceMs: 1_000,
};

export interface ReflectorOptions extends Selection {
  readonly times?: Partial<ReflectorTimes>;
  /** Uniform in [0, 1); replaced in tests. */
  readonly random?: () => number;
}

interface Receiver<T> {
  /**
   * Objects of a list that is still coming, which may yet begin anew: they exist or did a moment ago. For receivers that
   * would rather not take a long list over at once; `replaced` follows with all of them.
   */
  listed?(items: readonly T[]): void;
  /** The whole selection, after every list. What is not in it is gone. */
  replaced(items: readonly T[]): void;
  changed(item: T): void;
  removed(item: T): void;
  /** Why the receiver may be behind; undefined when it is current again. Told when it changes. */
  degraded(reason: string | undefined, error?: KubernetesApiError): void;
}

/** `read` takes over what is needed of an object as it arrives; without it the plain object is handed on. */
export type ReflectorSink<T> = Receiver<T> &
  (unknown extends T ? { read?(item: unknown): T } : { read(item: unknown): T });

export class Reflector<T = unknown> {
  readonly #client: KubeClient;
  readonly #resource: Resource;
  readonly #options: ReflectorOptions;
  readonly #times: ReflectorTimes;
  readonly #sink: ReflectorSink<T>;
  readonly #read: (item: unknown) => T;
  readonly #random: () => number;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  readonly #synced = Promise.withResolvers<void>();
  #running: Promise<void> | undefined;
  /** Where a watch goes on; undefined: list first. */
  #position: string | undefined;
  #pageSize = PAGE_SIZE;
  /** Since when there is no watch. */
  #brokenMs: number | undefined;
  /** The position was found to lie in the future of the server. */
  #ahead = false;
  #told: string | undefined;
  #lists = 0;

  constructor(client: KubeClient, resource: Resource, options: ReflectorOptions, sink: ReflectorSink<T>) {
    this.#client = client;
    this.#resource = resource;
    this.#options = options;
    this.#times = { ...REFLECTOR_TIMES, ...options.times };
    this.#sink = sink;
    const { read } = sink;
    // Without `read` T is unknown, which the type of the sink sees to.
    this.#read = read === undefined ? (item) => item as T : (item) => read.call(sink, item);
    this.#random = options.random ?? Math.random;
    const { firstBackoffMs: firstMs, maxBackoffMs: maxMs } = this.#times;
    this.#backoff = new Backoff({ firstMs, maxMs, random: this.#random });
  }

  /** Resolves after the first complete list was handed over. Never rejects. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  /** Complete lists so far. */
  get lists(): number {
    return this.#lists;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Nothing is told any more once it was called. Resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#stop.abort('closed');
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let openedMs = Number.POSITIVE_INFINITY;
      let failure: KubernetesApiError | undefined;
      try {
        this.#position ??= await this.#list();
        await this.#watch(this.#position, () => {
          openedMs = performance.now();
          this.#recovered();
        });
      } catch (thrown) {
        failure = asApiError(thrown);
      }
      if (signal.aborted) return;
      if (performance.now() - openedMs >= this.#times.healthyMs) this.#backoff.reset();
      if (failure !== undefined) this.#failed(failure);
      if (failure?.reason === 'Silent') this.#wasSilent();
      // A server that ends watches at once, for whatever reason, is not asked in a tight loop.
      await sleep(this.#delayMs(failure), signal);
    }
  }

  /** Resolves with the version of the list. */
  async #list(): Promise<string> {
    const items: T[] = [];
    for (let continueToken = ''; ; ) {
      const page = await this.#client.listPage(this.#resource, this.#options, {
        limit: this.#pageSize,
        continueToken,
        signal: this.#stop.signal,
      });
      const read = page.items.map((item) => this.#read(item));
      this.#stop.signal.throwIfAborted();
      this.#sink.listed?.(read);
      for (const item of read) items.push(item);
      continueToken = page.continueToken;
      if (continueToken !== '') continue;
      this.#stop.signal.throwIfAborted();
      this.#sink.replaced(items);
      this.#lists++;
      this.#synced.resolve();
      return page.resourceVersion;
    }
  }

  async #watch(resourceVersion: string, onOpen: () => void): Promise<void> {
    const { watchSeconds, silenceMs } = this.#times;
    await this.#client.watch(this.#resource, {
      ...this.#options,
      resourceVersion,
      timeoutSeconds: Math.ceil(watchSeconds * (1 + this.#random())),
      silenceMs,
      signal: this.#stop.signal,
      onOpen,
      onEvent: (event) => this.#take(event),
    });
  }

  #take(event: WatchEvent): void {
    if (this.#stop.signal.aborted) return;
    this.#ahead = false;
    if (event.type === 'BOOKMARK') {
      this.#position = event.resourceVersion;
      return;
    }
    const item = this.#read(event.object);
    if (event.type === 'DELETED') this.#sink.removed(item);
    else this.#sink.changed(item);
    this.#position = event.object.metadata.resourceVersion;
  }

  /** Resuming does not wait for the answer, which may come over a connection that is gone too; the next silence knows it. */
  #wasSilent(): void {
    if (this.#ahead) this.#position = undefined;
    this.#ahead = false;
    void this.#isAhead().then((ahead) => {
      this.#ahead = ahead;
    });
  }

  /**
   * True when our position lies in the server's future: it was restored from a backup, and a watch from there would say
   * nothing until it has caught up. Quiet kinds are silent too, so this is asked instead of listing them again and again.
   */
  async #isAhead(): Promise<boolean> {
    const position = this.#position ?? '0';
    try {
      const first = { limit: 1, continueToken: '', signal: this.#stop.signal };
      const { resourceVersion } = await this.#client.listPage(this.#resource, this.#options, first);
      const comparable = /^\d+$/.test(position) && /^\d+$/.test(resourceVersion);
      return comparable && BigInt(resourceVersion) < BigInt(position);
    } catch {
      return false;
    }
  }

  #recovered(): void {
    this.#brokenMs = undefined;
    if (this.#told === undefined) return;
    this.#told = undefined;
    this.#sink.degraded(undefined);
  }

  #failed(error: KubernetesApiError): void {
    this.#brokenMs ??= performance.now();
    if (!RESUMABLE.has(error.status) || error.reason.startsWith('Malformed') || error.reason === 'EventTooLarge') {
      this.#position = undefined;
    }
    if (error.reason === 'AnswerTooLarge' && this.#pageSize > 1) {
      this.#pageSize = Math.ceil(this.#pageSize / 4);
      return;
    }
    // A cut or an old position is nothing to talk about when the next attempts heal it.
    const harmless = this.#lists > 0 && (isGone(error) || isUnreachable(error));
    if (harmless && performance.now() - this.#brokenMs < this.#times.patienceMs) return;
    if (this.#told === error.message) return;
    this.#told = error.message;
    this.#sink.degraded(error.message, error);
  }

  #delayMs(failure: KubernetesApiError | undefined): number {
    const delay = this.#backoff.nextDelayMs();
    if (failure === undefined) return delay;
    if (isNotFound(failure)) return Math.min(delay, this.#times.absentBackoffMs);
    return Math.max(delay, Math.min(failure.retryAfterMs ?? 0, this.#times.maxBackoffMs));
  }
}

/** Failures of a watch after which its position still counts: no answer, or a server that would not serve us now. */
const RESUMABLE: ReadonlySet<number> = new Set([0, 401, 403, 429, 503]);

function asApiError(thrown: unknown): KubernetesApiError {
  if (thrown instanceof KubernetesApiError) return thrown;
  const { message } = toAmbitError(thrown, 'KUBERNETES_API');
  // A status of its own: whatever it was, a fresh list is the safe way on.
  return new KubernetesApiError(message, { status: 500, reason: 'ReceiverFailed', cause: thrown });
}
