/**
 * The delta xDS service: the streams of all authenticated clients over the resource stores.
 *
 * It owns admission, the turns in which streams work, the clock that ends those that do not answer, and the end of all
 * of them. `publish` only takes changes over; they are sent in turns, so that neither a large change nor a large client
 * delays anything else in the process. What happens inside one stream is in `discovery-stream.ts`.
 */
import { status } from '@grpc/grpc-js';
import { AmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { type Caller, callerKey } from '../authentication.ts';
import { RESOURCE_TYPES, type ResourceType, type ResourceUpdate } from '../discovery/resource.ts';
import { visible } from '../discovery/visibility.ts';
import type { ControlMetrics } from '../metrics.ts';
import { RateLimit } from '../rate-limit.ts';
import type { ClientState } from './client-state.ts';
import { DISCOVERY_LIMITS, type DiscoveryLimits, type RefusalReason } from './discovery-limits.ts';
import { type DiscoveryCall, DiscoveryStream, type StreamContext } from './discovery-stream.ts';
import { OpeningGate } from './opening-gate.ts';
import type { View } from './reader.ts';
import { ResourceStore } from './resource-store.ts';
import { ResponseCache } from './response-cache.ts';
import { SERVED_TYPES } from './served-types.ts';
import { Turns } from './turns.ts';

export interface DiscoveryOptions {
  readonly limits?: Partial<DiscoveryLimits>;
  /** Name of this process among its replicas, told to clients. */
  readonly replica?: string;
  /** What a caller may see; undefined: everything. */
  readonly view?: (caller: Caller) => View | undefined;
  /** True while the pod that the caller's proof is bound to does not exist; undefined: nobody knows. */
  readonly isGone?: (caller: Caller) => boolean;
  /** Closes the connection of a client that does not read what it was sent: nothing else gives its memory back. */
  readonly disconnect?: (peer: string) => void;
}

/** How often the clock is looked at. */
const SWEEP_MS = 1000;
/** Removals that are not worth looking through. */
const TRIM_ABOVE = 1000;
/** How long a client that was told of its end may take to read that. */
const DISCONNECT_AFTER_MS = 1000;
/** After this much silence shared responses are given back. */
const CACHE_IDLE_MS = 10_000;

const log = logger('xds');

export class DiscoveryService {
  readonly #stores: ReadonlyMap<ResourceType, ResourceStore>;
  readonly #caches: ReadonlyMap<string, ResponseCache>;
  readonly #metrics: ControlMetrics;
  readonly #limits: DiscoveryLimits;
  readonly #disconnect: (peer: string) => void;
  readonly #isGone: (caller: Caller) => boolean;
  /** Since when the pods of these streams have been gone, milliseconds of `performance.now`. */
  readonly #goneSinceMs = new Map<DiscoveryStream, number>();
  readonly #context: StreamContext;
  readonly #streams = new Set<DiscoveryStream>();
  readonly #perCaller = new Map<string, number>();
  readonly #opens: RateLimit;
  readonly #gate: OpeningGate<DiscoveryStream>;
  readonly #turns: Turns<DiscoveryStream>;
  #sweeper: NodeJS.Timeout | undefined;
  #counter = 0;
  #untaken = 0;
  #lastSentMs = 0;
  #partial = false;
  #stopping = false;
  #onEmpty: (() => void) | undefined;

  constructor(metrics: ControlMetrics, options: DiscoveryOptions = {}) {
    this.#stores = new Map(RESOURCE_TYPES.map((type) => [type, new ResourceStore(type)]));
    this.#caches = new Map(SERVED_TYPES.map(({ url, stored }) => [url, new ResponseCache(this.store(stored))]));
    this.#metrics = metrics;
    this.#limits = { ...DISCOVERY_LIMITS, ...options.limits };
    this.#disconnect = options.disconnect ?? (() => undefined);
    this.#isGone = options.isGone ?? (() => false);
    const { openBurst, opensPerSecond, maxStreams, maxOpening, openingMs, turnMs } = this.#limits;
    this.#opens = new RateLimit({ burst: openBurst, perSecond: opensPerSecond, maxKeys: maxStreams });
    this.#gate = new OpeningGate((stream) => stream.open(), { places: maxOpening, holdMs: openingMs });
    this.#turns = new Turns((stream) => stream.step(), { budgetMs: turnMs });
    this.#context = {
      ...{ stores: this.#stores, caches: this.#caches, metrics, limits: this.#limits },
      replica: options.replica ?? '',
      view: options.view ?? restrictedView,
      isPartial: () => this.#partial,
      wake: (stream) => this.#turns.wake(stream),
      isFull: () => this.#untaken >= this.#limits.maxUntakenBytes,
      onUntaken: (bytes) => this.#countUntaken(bytes),
      onOpened: (stream) => this.#gate.leave(stream),
      onEnd: (stream, untaken) => this.#ended(stream, untaken),
    };
  }

  /**
   * Takes updates over; clients are told in the turns that follow. `complete` false: the change has further parts, until
   * then removals of policies wait, because workloads that name them may still follow.
   */
  publish(updates: readonly ResourceUpdate[], complete = true): void {
    const wasPartial = this.#partial;
    this.#partial = !complete;
    let changed = false;
    const nowMs = performance.now();
    for (const store of this.#stores.values()) changed = store.publish(updates, nowMs) || changed;
    if (changed) this.#metrics.pushes.inc();
    if (changed || wasPartial !== this.#partial) this.#wakeAll();
  }

  store(type: ResourceType): ResourceStore {
    const store = this.#stores.get(type);
    if (store === undefined) throw new AmbitError('USAGE', `no store of ${type}`);
    return store;
  }

  clients(): ClientState[] {
    const nowMs = performance.now();
    return [...this.#streams].map((stream) => stream.state(nowMs));
  }

  /** Streams, and those of them whose client has not acknowledged everything. Cheap, unlike `clients`. */
  counts(): { readonly clients: number; readonly behind: number } {
    let behind = 0;
    for (const stream of this.#streams) if (!stream.isSynced) behind++;
    return { clients: this.#streams.size, behind };
  }

  /** Streams that have something to do now, and the longest turn so far. */
  load(): { readonly waiting: number; readonly opening: number; readonly longestTurnMs: number } {
    return { waiting: this.#turns.waiting, opening: this.#gate.waiting, longestTurnMs: this.#turns.longestMs };
  }

  /** Handler of `DeltaAggregatedResources` (`discoveryMethod`). `caller` has been authenticated. */
  serve(call: DiscoveryCall, caller: Caller): void {
    call.on('error', () => undefined);
    const key = callerKey(caller);
    const open = this.#perCaller.get(key) ?? 0;
    if (this.#stopping) {
      this.#refuse(call, status.UNAVAILABLE, 'stopping', 'the control plane is stopping');
    } else if (this.#streams.size >= this.#limits.maxStreams) {
      this.#refuse(call, status.RESOURCE_EXHAUSTED, 'too many streams', 'too many streams');
    } else if (open >= this.#limits.maxStreamsPerCaller) {
      log.warn({ caller: key, streams: open }, 'stream refused: the caller has too many');
      const reason = 'too many streams of the caller';
      this.#refuse(call, status.RESOURCE_EXHAUSTED, reason, 'too many streams of this caller');
    } else if (!this.#opens.take(key)) {
      this.#refuse(call, status.RESOURCE_EXHAUSTED, 'streams opened too often', 'streams are opened too often');
    } else {
      this.#perCaller.set(key, open + 1);
      const stream = new DiscoveryStream(call, caller, ++this.#counter, this.#context);
      this.#streams.add(stream);
      this.#metrics.connectedClients.set(this.#streams.size);
      this.#sweeper ??= setInterval(() => this.sweep(), SWEEP_MS).unref();
      this.#gate.enter(stream);
    }
  }

  /**
   * Ends all streams, spread over `overMs` with jitter, so that clients do not arrive at other replicas all at once. New
   * ones are refused at once. Resolves when all have ended.
   */
  drain(overMs: number): Promise<void> {
    this.#stopping = true;
    const streams = shuffled([...this.#streams]);
    const timers = streams.map((stream, index) =>
      setTimeout(() => endForStop(stream), ((index + Math.random()) / streams.length) * overMs),
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = () => {
      for (const timer of timers) clearTimeout(timer);
      resolve();
    };
    if (this.#streams.size === 0) this.#onEmpty();
    return promise;
  }

  /** Ends every stream now; clients reconnect elsewhere or later. */
  close(): void {
    this.#stopping = true;
    for (const stream of [...this.#streams]) endForStop(stream);
    this.#turns.close();
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** Looks at the clock: called every second while there are streams. */
  sweep(nowMs = performance.now()): void {
    this.#gate.expire(nowMs);
    for (const stream of [...this.#streams]) {
      stream.checkTimes(nowMs);
      this.#endIfGone(stream, nowMs);
    }
    if (this.#untaken >= this.#limits.maxUntakenBytes) this.#disconnectIdlest(nowMs);
    for (const store of this.#stores.values()) if (store.removals > TRIM_ABOVE) this.#trim(store);
    if (nowMs - this.#lastSentMs > CACHE_IDLE_MS) for (const cache of this.#caches.values()) cache.clear();
    this.#report();
    if (this.#streams.size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** A token that was read from a pod is of no use once the pod is gone; the moment is for news that are on their way. */
  #endIfGone(stream: DiscoveryStream, nowMs: number): void {
    if (stream.hasEnded || !this.#isGone(stream.caller)) {
      this.#goneSinceMs.delete(stream);
      return;
    }
    const sinceMs = this.#goneSinceMs.get(stream) ?? nowMs;
    this.#goneSinceMs.set(stream, sinceMs);
    if (nowMs - sinceMs < this.#limits.goneMs) return;
    stream.refuse(status.UNAUTHENTICATED, 'proof expired', 'the pod of the token is gone');
  }

  /** Counts who has everything, and has the others work on. */
  #report(): void {
    // Whatever waits for a time and not for an event is looked at again.
    for (const stream of this.#streams) if (!stream.isSynced) this.#turns.wake(stream);
    const { clients, behind } = this.counts();
    this.#metrics.clients.set({ state: 'synced' }, clients - behind);
    this.#metrics.clients.set({ state: 'behind' }, behind);
    this.#metrics.queues.set({ queue: 'turn' }, this.#turns.waiting);
    this.#metrics.queues.set({ queue: 'opening' }, this.#gate.waiting);
  }

  #wakeAll(): void {
    for (const stream of this.#streams) this.#turns.wake(stream);
  }

  #countUntaken(bytes: number): void {
    const wasFull = this.#untaken >= this.#limits.maxUntakenBytes;
    this.#untaken += bytes;
    if (bytes > 0) this.#lastSentMs = performance.now();
    if (wasFull && this.#untaken < this.#limits.maxUntakenBytes) this.#wakeAll();
  }

  /** Memory is full of responses that clients do not take: the one that has taken nothing for longest goes. */
  #disconnectIdlest(nowMs: number): void {
    let idlest: DiscoveryStream | undefined;
    for (const stream of this.#streams) {
      if (stream.untakenSinceMs() < (idlest?.untakenSinceMs() ?? nowMs - this.#limits.untakenMs)) idlest = stream;
    }
    idlest?.refuse(status.RESOURCE_EXHAUSTED, 'not read', 'responses were not read');
  }

  #trim(store: ResourceStore): void {
    let oldest = store.sequence;
    for (const stream of this.#streams) oldest = Math.min(oldest, stream.position(store.type));
    store.trim(oldest);
    if (store.removals <= this.#limits.maxRemovals) return;
    for (const stream of [...this.#streams]) {
      if (stream.position(store.type) > oldest) continue;
      stream.refuse(status.RESOURCE_EXHAUSTED, 'too far behind', 'too far behind; resume with the versions held');
    }
  }

  #ended(stream: DiscoveryStream, untaken: boolean): void {
    this.#streams.delete(stream);
    this.#turns.forget(stream);
    this.#goneSinceMs.delete(stream);
    this.#gate.leave(stream);
    const { caller, peer } = stream;
    const key = callerKey(caller);
    const left = (this.#perCaller.get(key) ?? 1) - 1;
    if (left === 0) this.#perCaller.delete(key);
    else this.#perCaller.set(key, left);
    this.#metrics.connectedClients.set(this.#streams.size);
    // The end itself waits behind the response that the client does not take.
    if (untaken) setTimeout(() => this.#disconnect(peer), DISCONNECT_AFTER_MS).unref();
    if (this.#streams.size === 0) this.#onEmpty?.();
  }

  #refuse(call: DiscoveryCall, code: status, reason: RefusalReason, details: string): void {
    this.#metrics.xdsRefusals.inc({ reason });
    call.emit('error', { code, details });
  }
}

/** Agents that serve a node see everything; whoever else, what its namespace may see. */
function restrictedView({ namespace, node }: Caller): View | undefined {
  if (node !== undefined) return undefined;
  return (resource) => visible(resource, { namespace, servesNode: false });
}

function endForStop(stream: DiscoveryStream): void {
  stream.refuse(status.UNAVAILABLE, 'stopping', 'the control plane is stopping');
}

function shuffled<T>(items: T[]): T[] {
  for (let index = items.length - 1; index > 0; index--) {
    const other = Math.floor(Math.random() * (index + 1));
    const [a, b] = [items[index], items[other]];
    if (a !== undefined && b !== undefined) [items[index], items[other]] = [b, a];
  }
  return items;
}
