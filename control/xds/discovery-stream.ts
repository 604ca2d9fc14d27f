/**
 * One client's delta xDS stream: requests in, responses out, one subscription per type.
 *
 * States: open -> ended (once, by `end`, the client, an error or an unanswered response). Responses leave in the order
 * of RESOURCE_TYPES: policies before the workloads that name them; removals of policies are held back until the
 * workloads that named them were sent. There is at most one outstanding response per type, so a client that does not
 * read holds a bounded amount of memory.
 */
import { status } from '@grpc/grpc-js';
import type { DeltaDiscoveryRequest } from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { Caller } from '../authentication.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, RESOURCE_TYPES, type ResourceType } from '../discovery/resource.ts';
import type { ControlMetrics } from '../metrics.ts';
import { RateLimit } from '../rate-limit.ts';
import type { DiscoveryCall, DiscoveryLimits } from './discovery-service.ts';
import type { ResourceStore } from './resource-store.ts';
import { Subscription } from './subscription.ts';

/** One client as the status page shows it. */
export interface ClientState {
  readonly peer: string;
  readonly node: string;
  readonly caller: string;
  readonly types: readonly { readonly type: string; readonly synced: boolean; readonly lastRefusal?: string }[];
}

const log = logger('xds');

export class DiscoveryStream {
  readonly #call: DiscoveryCall;
  readonly #caller: Caller;
  readonly #stores: ReadonlyMap<ResourceType, ResourceStore>;
  readonly #metrics: ControlMetrics;
  readonly #limits: DiscoveryLimits;
  readonly #requests: RateLimit;
  readonly #onEnd: () => void;
  readonly #subscriptions = new Map<ResourceType, Subscription>();
  readonly #answerTimers = new Map<ResourceType, NodeJS.Timeout>();
  readonly #refusals = new Map<ResourceType, string>();
  #expiry: NodeJS.Timeout | undefined;
  #ended = false;
  #warned = false;

  constructor(
    call: DiscoveryCall,
    caller: Caller,
    stores: ReadonlyMap<ResourceType, ResourceStore>,
    metrics: ControlMetrics,
    limits: DiscoveryLimits,
    onEnd: () => void,
  ) {
    this.#call = call;
    this.#caller = caller;
    this.#stores = stores;
    this.#metrics = metrics;
    this.#limits = limits;
    this.#requests = new RateLimit({ burst: limits.requestBurst, perSecond: limits.requestsPerSecond, maxKeys: 1 });
    this.#onEnd = onEnd;
  }

  start(): void {
    const call = this.#call;
    call.on('data', (request: DeltaDiscoveryRequest) => this.#receive(request));
    call.on('end', () => this.end(status.OK, ''));
    call.on('cancelled', () => this.#finish());
    call.on('close', () => this.#finish());
    call.on('error', () => this.#finish());
    // A stream never outlives the token it was opened with; the client comes back with its current one.
    const lifetimeMs = Math.min(Math.max(0, this.#caller.expiresMs - Date.now()), MAX_TIMER_MS);
    this.#expiry = setTimeout(() => this.end(status.UNAUTHENTICATED, 'the token expired'), lifetimeMs).unref();
    log.info({ peer: call.getPeer(), node: this.#caller.node }, 'client connected');
    call.resume();
  }

  /** Sends what is new, as far as the client has answered what it got. */
  flush(): void {
    for (const type of RESOURCE_TYPES) this.#send(type);
    // What was held back for the sake of the order can go once the workloads are out.
    this.#send(AUTHORIZATION_TYPE);
  }

  /** The log position this stream needs; infinite for a type it does not subscribe to. */
  synced(type: ResourceType): number {
    return this.#subscriptions.get(type)?.synced ?? Number.POSITIVE_INFINITY;
  }

  state(): ClientState {
    const types = [...this.#subscriptions].map(([type, subscription]) => {
      const lastRefusal = this.#refusals.get(type);
      const base = { type, synced: subscription.isIdle };
      return lastRefusal === undefined ? base : { ...base, lastRefusal };
    });
    const caller = `${this.#caller.namespace}/${this.#caller.serviceAccount}`;
    return { peer: this.#call.getPeer(), node: this.#caller.node ?? '', caller, types };
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
    clearTimeout(this.#expiry);
    for (const timer of this.#answerTimers.values()) clearTimeout(timer);
    this.#subscriptions.clear();
    log.info({ peer: this.#call.getPeer(), node: this.#caller.node }, 'client disconnected');
    this.#onEnd();
  }

  #receive(request: DeltaDiscoveryRequest): void {
    if (this.#ended) return;
    if (!this.#requests.take('')) {
      log.warn({ peer: this.#call.getPeer(), node: this.#caller.node }, 'client refused: it sends too many requests');
      this.end(status.RESOURCE_EXHAUSTED, 'too many requests');
      return;
    }
    const type = RESOURCE_TYPES.find((candidate) => candidate === request.typeUrl);
    const store = type === undefined ? undefined : this.#stores.get(type);
    if (type === undefined || store === undefined) {
      if (!this.#warned)
        log.warn({ node: this.#caller.node, type: request.typeUrl.slice(0, 200) }, 'unknown type ignored');
      this.#warned = true;
      return;
    }
    try {
      const subscription = this.#subscriptions.get(type);
      if (subscription === undefined) {
        this.#subscriptions.set(type, new Subscription(store, request, this.#caller.node ?? ''));
      } else this.#answered(type, subscription, request);
    } catch (thrown) {
      const { message } = toAmbitError(thrown, 'XDS');
      log.warn({ peer: this.#call.getPeer(), node: this.#caller.node, type, reason: message }, 'client refused');
      this.end(status.RESOURCE_EXHAUSTED, message);
      return;
    }
    this.flush();
  }

  #answered(type: ResourceType, subscription: Subscription, request: DeltaDiscoveryRequest): void {
    const answer = subscription.request(request);
    if (answer.kind === 'none') return;
    clearTimeout(this.#answerTimers.get(type));
    this.#metrics.answers.inc({ type, result: answer.kind });
    if (answer.kind === 'ack') {
      this.#refusals.delete(type);
      return;
    }
    this.#refusals.set(type, answer.message);
    log.warn(
      { peer: this.#call.getPeer(), node: this.#caller.node, type, reason: answer.message },
      'client refused a response',
    );
  }

  #send(type: ResourceType): void {
    const subscription = this.#subscriptions.get(type);
    if (subscription === undefined || this.#ended) return;
    const policies = this.#subscriptions.get(AUTHORIZATION_TYPE);
    // New policies cannot go before the last answer about policies is in; workloads that may name them wait for that.
    if (type === ADDRESS_TYPE && policies !== undefined && policies.isWaiting && policies.hasNews) return;
    const workloads = this.#subscriptions.get(ADDRESS_TYPE);
    const holdRemovals = type === AUTHORIZATION_TYPE && workloads !== undefined && workloads.hasNews;
    const response = subscription.next(holdRemovals);
    if (response === undefined) return;
    this.#metrics.sentResources.inc({ type }, response.resources.length + response.removedResources.length);
    this.#call.write(response);
    const timeout = setTimeout(() => {
      log.warn({ peer: this.#call.getPeer(), node: this.#caller.node, type }, 'client did not answer in time');
      this.end(status.DEADLINE_EXCEEDED, 'a response was not answered in time');
    }, this.#limits.answerTimeoutMs);
    this.#answerTimers.set(type, timeout.unref());
  }
}

/** The longest delay a timer takes, milliseconds. */
const MAX_TIMER_MS = 2_147_483_647;
