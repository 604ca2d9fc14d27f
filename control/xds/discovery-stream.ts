/**
 * One client's delta xDS stream: requests in, responses out, one subscription per type.
 *
 * States: opening (nothing is read yet) -> open -> ended (once, by `end`, the client or an error). Everything a stream
 * does is a bounded `step` that the service calls in turn with those of others. At most one response is on its way to the
 * client at a time, and one per type waits for its answer, so that a client that does not read holds one response.
 *
 * Responses leave in the order of SERVED_TYPES: policies before the workloads that name them; removals of policies are
 * held back until the workloads that named them were sent.
 */
import type { EventEmitter } from 'node:events';
import { status } from '@grpc/grpc-js';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { Caller } from '../authentication.ts';
import { AUTHORIZATION_TYPE, type ResourceType } from '../discovery/resource.ts';
import type { ControlMetrics } from '../metrics.ts';
import { RateLimit } from '../rate-limit.ts';
import type { ClientState, ClientTypeState } from './client-state.ts';
import type { DiscoveryLimits, RefusalReason } from './discovery-limits.ts';
import { DiscoveryRequest } from './discovery-request.ts';
import type { View } from './reader.ts';
import type { ResourceStore } from './resource-store.ts';
import type { Response } from './response.ts';
import type { ResponseCache } from './response-cache.ts';
import { findServedType, SERVED_TYPES, type ServedType } from './served-types.ts';
import { Subscription } from './subscription.ts';

/** What is used of a grpc-js `ServerDuplexStream` of bytes (`discoveryMethod`). */
export interface DiscoveryCall extends EventEmitter {
  /** `taken` is called when the transport has taken the bytes over. */
  write(response: Buffer, taken: () => void): boolean;
  end(): void;
  resume(): unknown;
  getPeer(): string;
}

/** What the streams share. */
export interface StreamContext {
  readonly stores: ReadonlyMap<ResourceType, ResourceStore>;
  readonly caches: ReadonlyMap<string, ResponseCache>;
  readonly metrics: ControlMetrics;
  readonly limits: DiscoveryLimits;
  readonly replica: string;
  /** What the caller may see; undefined: everything. */
  readonly view: (caller: Caller) => View | undefined;
  /** True while a change of the mesh is only published in part: what it removes must wait for its rest. */
  readonly isPartial: () => boolean;
  /** Tells that the stream has something to do. */
  readonly wake: (stream: DiscoveryStream) => void;
  /** True when responses of this many clients are on their way that no large one may follow. */
  readonly isFull: () => boolean;
  /** Bytes that are on their way to clients: added, and taken away with a minus. */
  readonly onUntaken: (bytes: number) => void;
  readonly onOpened: (stream: DiscoveryStream) => void;
  readonly onEnd: (stream: DiscoveryStream, untaken: boolean) => void;
}

interface Progress {
  /** When the response that waits for its answer was sent; milliseconds of `performance.now`. */
  sentAtMs: number;
  sentVersion: number;
  ackedVersion: number;
  ackedNonce: string;
  responses: number;
  resources: number;
  subscribedAtMs: number;
  lastNack?: { readonly at: string; readonly nonce: string; readonly reason: string };
}

/** Changes that a client may be behind and still get while the way to others is full. */
const SMALL_BACKLOG = 1000;

const log = logger('xds');

export class DiscoveryStream {
  readonly caller: Caller;
  readonly peer: string;
  readonly #number: number;
  readonly #call: DiscoveryCall;
  readonly #context: StreamContext;
  readonly #allowance: RateLimit;
  readonly #subscriptions = new Map<ServedType, Subscription>();
  readonly #progress = new Map<ServedType, Progress>();
  readonly #connectedAt = new Date();
  readonly #expiresAtMs: number;
  #requests: Buffer[] = [];
  #requestBytes = 0;
  #nodeId = '';
  /** Bytes of the response that is on its way, and since when. */
  #untaken = 0;
  #untakenSinceMs = 0;
  #bytesSent = 0;
  /** Since when removals of policies have been held back. */
  #holdingSinceMs: number | undefined;
  #ended = false;
  #warned = false;

  constructor(call: DiscoveryCall, caller: Caller, number: number, context: StreamContext) {
    this.#call = call;
    this.caller = caller;
    this.peer = call.getPeer();
    this.#number = number;
    this.#context = context;
    const { requestBurst, requestsPerSecond } = context.limits;
    this.#allowance = new RateLimit({ burst: requestBurst, perSecond: requestsPerSecond, maxKeys: 1 });
    this.#expiresAtMs = performance.now() + Math.max(0, caller.expiresMs - Date.now());
    call.on('cancelled', () => this.#finish());
    call.on('close', () => this.#finish());
    call.on('error', () => this.#finish());
    log.info({ peer: this.peer, node: caller.node }, 'client connected');
  }

  /** Begins to read. */
  open(): void {
    this.#call.on('data', (bytes: Buffer) => this.#receive(bytes));
    this.#call.on('end', () => this.end(status.OK, ''));
    this.#call.resume();
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** One bounded piece of work; true when there is more to do at once. */
  step(): boolean {
    if (this.#ended) return false;
    try {
      return this.#work();
    } catch (thrown) {
      const { code, message } = toAmbitError(thrown, 'XDS');
      if (code === 'DECODE') this.refuse(status.INVALID_ARGUMENT, 'request not understood', message);
      else this.refuse(status.RESOURCE_EXHAUSTED, 'asks for too much', message);
      return false;
    }
  }

  /** Looks at the clock: ends a stream whose client owes an answer for too long, or whose proof of identity is over. */
  checkTimes(nowMs: number): void {
    // A stream never outlives the token it was opened with; the client comes back with its current one.
    if (nowMs >= this.#expiresAtMs) this.refuse(status.UNAUTHENTICATED, 'proof expired', 'the token expired');
    else if (nowMs - this.#oldestUnansweredMs() >= this.#context.limits.answerTimeoutMs) {
      this.refuse(status.DEADLINE_EXCEEDED, 'not answered', 'a response was not answered in time');
    }
  }

  /** Since when the response on its way has not been taken; infinite when none is. */
  untakenSinceMs(): number {
    return this.#untaken === 0 ? Number.POSITIVE_INFINITY : this.#untakenSinceMs;
  }

  /** The log position of a store that this stream still needs; infinite when it does not read it. */
  position(type: ResourceType): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const [served, subscription] of this.#subscriptions) {
      if (served.stored === type) oldest = Math.min(oldest, subscription.position);
    }
    return oldest;
  }

  /** True when the client has everything and has said so, of every type it subscribed to. */
  get isSynced(): boolean {
    const subscriptions = [...this.#subscriptions.values()];
    return subscriptions.length > 0 && subscriptions.every((subscription) => subscription.isSynced);
  }

  state(nowMs = performance.now()): ClientState {
    const { caller } = this;
    return {
      stream: this.#number,
      caller: `${caller.namespace}/${caller.serviceAccount}`,
      node: caller.node ?? '',
      pod: caller.pod?.name ?? '',
      how: caller.how,
      nodeId: this.#nodeId,
      peer: this.peer,
      connectedSince: this.#connectedAt.toISOString(),
      types: [...this.#subscriptions].map(([type, subscription]) => this.#typeState(type, subscription, nowMs)),
      bytesSent: this.#bytesSent,
    };
  }

  /** Ends the stream because of something the client did or did not do; counted, and told to the client. */
  refuse(code: status, reason: RefusalReason, details: string): void {
    if (this.#ended) return;
    this.#context.metrics.xdsRefusals.inc({ reason });
    const level = reason === 'stopping' || reason === 'proof expired' ? 'info' : 'warn';
    log[level]({ peer: this.peer, node: this.caller.node, reason, details }, 'stream ended by the control plane');
    this.end(code, details);
  }

  /** Ends the stream towards the client. */
  end(code: status, details: string): void {
    if (this.#ended) return;
    this.#finish();
    if (code === status.OK) this.#call.end();
    else this.#call.emit('error', { code, details });
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    const untaken = this.#untaken > 0;
    if (untaken) this.#context.onUntaken(-this.#untaken);
    this.#subscriptions.clear();
    this.#requests = [];
    log.info({ peer: this.peer, node: this.caller.node }, 'client disconnected');
    this.#context.onEnd(this, untaken);
  }

  #receive(bytes: Buffer): void {
    if (this.#ended) return;
    if (!this.#allowance.take('')) {
      this.refuse(status.RESOURCE_EXHAUSTED, 'too many requests', 'too many requests');
      return;
    }
    this.#requests.push(bytes);
    this.#requestBytes += bytes.length;
    if (this.#requestBytes > this.#context.limits.maxWaitingBytes) {
      const details = `more than ${this.#context.limits.maxWaitingBytes} bytes of requests at once`;
      this.refuse(status.RESOURCE_EXHAUSTED, 'asks for too much', details);
      return;
    }
    this.#context.wake(this);
  }

  #work(): boolean {
    for (const subscription of this.#subscriptions.values()) {
      if (!subscription.isBusy) continue;
      subscription.step(true);
      return true;
    }
    const request = this.#requests.shift();
    if (request !== undefined) {
      this.#requestBytes -= request.length;
      this.#handle(new DiscoveryRequest(request, this.#context.limits.request));
      return true;
    }
    if (this.#untaken > 0) return false;
    for (const type of SERVED_TYPES) {
      const subscription = this.#subscriptions.get(type);
      if (subscription === undefined || subscription.isWaiting || !subscription.hasNews) continue;
      if (this.#mustWait(type, subscription)) continue;
      const step = subscription.step(this.#holdsRemovals(type, subscription));
      if (step.kind === 'more') return true;
      if (step.kind === 'response') {
        this.#send(type, step.response);
        return false;
      }
    }
    return false;
  }

  /** Workloads may name policies that the client does not have yet: those go first. */
  #mustWait(type: ServedType, subscription: Subscription): boolean {
    if (type.stored !== AUTHORIZATION_TYPE) {
      for (const [other, policies] of this.#subscriptions) {
        if (other.stored === AUTHORIZATION_TYPE && policies.isWaiting && policies.hasNews) return true;
      }
    }
    return this.#context.isFull() && subscription.behind().resources > SMALL_BACKLOG;
  }

  /** Removals of policies wait for the workloads that named them, though not for ever: others may change all the time. */
  #holdsRemovals(type: ServedType, policies: Subscription): boolean {
    if (type.stored !== AUTHORIZATION_TYPE) return false;
    if (!this.#context.isPartial() && !this.#workloadsHaveNews()) {
      this.#holdingSinceMs = undefined;
      return false;
    }
    // `hasNews` is what brought us here: when nothing was held until now, the clock starts.
    if (!policies.holdsRemovals) this.#holdingSinceMs = undefined;
    this.#holdingSinceMs ??= performance.now();
    return performance.now() - this.#holdingSinceMs < this.#context.limits.holdRemovalsMs;
  }

  #workloadsHaveNews(): boolean {
    for (const [type, workloads] of this.#subscriptions) {
      if (type.stored !== AUTHORIZATION_TYPE && workloads.hasNews) return true;
    }
    return false;
  }

  #handle(request: DiscoveryRequest): void {
    if (request.nodeId !== '') this.#nodeId = request.nodeId;
    const type = findServedType(request.typeUrl);
    const subscription = type === undefined ? undefined : this.#subscriptions.get(type);
    if (type === undefined) {
      if (!this.#warned) {
        log.warn({ node: this.caller.node, type: request.typeUrl.slice(0, 200) }, 'unknown type ignored');
      }
      this.#warned = true;
    } else if (subscription === undefined) this.#subscribe(type, request);
    else this.#answered(type, subscription, request);
  }

  #subscribe(type: ServedType, request: DiscoveryRequest): void {
    const { stores, caches, limits, replica, view } = this.#context;
    const store = stores.get(type.stored);
    const cache = caches.get(type.url);
    if (store === undefined || cache === undefined) return;
    const context = {
      ...{ store, cache, type, replica, limits: limits.reader, subscriptionLimits: limits.subscription },
      node: this.caller.node ?? '',
      sees: view(this.caller),
    };
    this.#subscriptions.set(type, new Subscription(context, request));
    const subscribedAtMs = performance.now();
    const zero = { sentAtMs: 0, sentVersion: 0, ackedVersion: 0, ackedNonce: '', responses: 0, resources: 0 };
    this.#progress.set(type, { ...zero, subscribedAtMs });
    if (type.stored !== AUTHORIZATION_TYPE) this.#context.onOpened(this);
  }

  #answered(type: ServedType, subscription: Subscription, request: DiscoveryRequest): void {
    const answer = subscription.request(request);
    const progress = this.#progress.get(type);
    if (answer.kind === 'none' || progress === undefined) return;
    this.#context.metrics.answers.inc({ type: type.url, result: answer.kind });
    if (answer.kind === 'ack') {
      progress.ackedNonce = answer.nonce;
      progress.ackedVersion = answer.sequence;
      return;
    }
    const { nonce, message: reason } = answer;
    progress.lastNack = { at: new Date().toISOString(), nonce, reason };
    log.warn({ peer: this.peer, node: this.caller.node, type: type.url, reason }, 'client refused a response');
  }

  #send(type: ServedType, { bytes, resources, removals, sequence }: Response): void {
    const { metrics, onUntaken } = this.#context;
    metrics.sentResources.inc({ type: type.url }, resources + removals);
    metrics.sentBytes.inc({ type: type.url }, bytes.length);
    const nowMs = performance.now();
    const progress = this.#progress.get(type);
    if (progress !== undefined) {
      // What was there before the client came is no news.
      const waitedSince = progress.responses === 0 ? undefined : this.#publishedAfter(type, progress.sentVersion);
      if (waitedSince !== undefined) metrics.delivery.observe(Math.max(0, nowMs - waitedSince) / 1000);
      progress.sentAtMs = nowMs;
      progress.sentVersion = sequence;
      progress.responses++;
      progress.resources += resources + removals;
    }
    this.#bytesSent += bytes.length;
    this.#untaken = bytes.length;
    this.#untakenSinceMs = nowMs;
    onUntaken(bytes.length);
    this.#call.write(bytes, () => {
      if (this.#ended) return;
      this.#untaken = 0;
      onUntaken(-bytes.length);
      this.#context.wake(this);
    });
  }

  /** When the first change after `sequence` was published; undefined where there is none, or it came before the client. */
  #publishedAfter(type: ServedType, sequence: number): number | undefined {
    const store = this.#context.stores.get(type.stored);
    const atMs = store?.at(store.indexAfter(sequence))?.atMs;
    return atMs === undefined || atMs < (this.#progress.get(type)?.subscribedAtMs ?? 0) ? undefined : atMs;
  }

  #oldestUnansweredMs(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const [type, subscription] of this.#subscriptions) {
      if (subscription.isWaiting) oldest = Math.min(oldest, this.#progress.get(type)?.sentAtMs ?? oldest);
    }
    return oldest;
  }

  #typeState(type: ServedType, subscription: Subscription, nowMs: number): ClientTypeState {
    const progress = this.#progress.get(type);
    const { resources: behind, sinceMs } = subscription.behind();
    // What was published before the client came waits since it came.
    const waitsSince = behind === 0 ? nowMs : Math.max(sinceMs, progress?.subscribedAtMs ?? nowMs);
    const owedSince = subscription.isWaiting ? (progress?.sentAtMs ?? nowMs) : nowMs;
    return {
      type: type.url,
      mode: subscription.isWildcard ? 'wildcard' : 'on demand',
      names: subscription.names,
      synced: subscription.isSynced,
      servedVersion: this.#context.stores.get(type.stored)?.sequence ?? 0,
      sentVersion: progress?.sentVersion ?? 0,
      ackedVersion: progress?.ackedVersion ?? 0,
      ackedNonce: progress?.ackedNonce ?? '',
      behind,
      behindMs: Math.max(0, Math.round(nowMs - Math.min(waitsSince, owedSince))),
      responses: progress?.responses ?? 0,
      resources: progress?.resources ?? 0,
      ...(progress?.lastNack === undefined ? {} : { lastNack: progress.lastNack }),
    };
  }
}
