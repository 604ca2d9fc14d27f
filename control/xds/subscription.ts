/**
 * One client's subscription to one resource type: what to send next. Pure state, no stream.
 *
 *   request ──> subscribe / resume / acknowledge
 *   backlog     names still to be sent, each once, in order (their content is looked up when a response is made)
 *   outstanding at most one response that waits for its ACK or NACK; news gathers in the log meanwhile
 *
 * A client that never answers therefore holds one response and nothing else, whatever changes meanwhile.
 */
import { create } from '@bufbuild/protobuf';
import {
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type Resource as ResourceMessage,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { AmbitError } from '../../core/errors.ts';
import type { Resource } from '../discovery/resource.ts';
import type { ResourceStore } from './resource-store.ts';

export interface SubscriptionLimits {
  /** Names one client may ask for by name. */
  readonly maxNames: number;
  /** A response is closed when its resources reach this size, bytes. */
  readonly responseBytes: number;
}

export const SUBSCRIPTION_LIMITS: SubscriptionLimits = { maxNames: 100_000, responseBytes: 4 * 1024 * 1024 };

/** Names, versions and tags around the content of one resource in a response, roughly. */
const ENVELOPE_BYTES = 128;

export type Answer =
  | { readonly kind: 'none' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack'; readonly message: string };

export class Subscription {
  readonly #store: ResourceStore;
  readonly #limits: SubscriptionLimits;
  readonly #node: string;
  #wildcard: boolean;
  /** Keys asked for by name: names or aliases. */
  readonly #keys = new Set<string>();
  readonly #backlog = new Set<string>();
  /** Everything up to this change of the store is sent or in the backlog. */
  #synced: number;
  #nonceCounter = 0;
  #outstanding: string | undefined;
  /** The first response is sent even when it is empty: clients wait for it. */
  #greeted = false;

  /** `request` is the first of its type on the stream. `node`: workloads of this node are always included. */
  constructor(store: ResourceStore, request: DeltaDiscoveryRequest, node: string, limits = SUBSCRIPTION_LIMITS) {
    this.#store = store;
    this.#limits = limits;
    this.#node = node;
    this.#synced = store.sequence;
    this.#wildcard = isWildcard(request);
    this.#addKeys(request.resourceNamesSubscribe);
    const held = request.initialResourceVersions;
    for (const name of this.#resume(held)) this.#backlog.add(name);
    for (const key of this.#keys) {
      for (const name of this.#expand(key)) if (held[name] === undefined) this.#backlog.add(name);
    }
  }

  /** Number of the last change this subscription needs from the store's log. */
  get synced(): number {
    return this.#synced;
  }

  get isWaiting(): boolean {
    return this.#outstanding !== undefined;
  }

  /** True when nothing is left to send and nothing waits for an answer. */
  get isIdle(): boolean {
    return !this.isWaiting && !this.hasNews;
  }

  get hasNews(): boolean {
    return !this.#greeted || this.#backlog.size > 0 || this.#synced !== this.#store.sequence;
  }

  /** Takes a later request of the same type. Throws XDS when it asks for more names than allowed. */
  request(request: DeltaDiscoveryRequest): Answer {
    for (const key of request.resourceNamesUnsubscribe) {
      if (key === '*') this.#wildcard = false;
      else if (this.#keys.delete(key) && this.#store.find(key) === undefined) this.#backlog.delete(key);
    }
    const added = request.resourceNamesSubscribe.filter((key) => key !== '*');
    if (request.resourceNamesSubscribe.includes('*') && !this.#wildcard) {
      this.#wildcard = true;
      for (const name of this.#store.names()) this.#backlog.add(name);
    }
    this.#addKeys(added);
    // Whatever is subscribed again is sent again: the client may have dropped it.
    for (const key of added) for (const name of this.#expand(key)) this.#backlog.add(name);
    return this.#answer(request);
  }

  /** The next response, or undefined when there is none or one is outstanding. `holdRemovals`: send no removals now. */
  next(holdRemovals = false): DeltaDiscoveryResponse | undefined {
    if (this.isWaiting || !this.hasNews) return undefined;
    this.#refill();
    const response = create(DeltaDiscoveryResponseSchema, { typeUrl: this.#store.type });
    let size = 0;
    for (const name of this.#backlog) {
      if (size >= this.#limits.responseBytes) break;
      const found = this.#store.find(name);
      if (found === undefined && holdRemovals) continue;
      this.#backlog.delete(name);
      if (found === undefined) response.removedResources.push(name);
      else response.resources.push(asMessage(found, this.#store.type));
      size += name.length + (found === undefined ? 0 : found.bytes.length + ENVELOPE_BYTES);
    }
    if (this.#greeted && response.resources.length === 0 && response.removedResources.length === 0) return undefined;
    this.#greeted = true;
    this.#outstanding = `${this.#store.sequence}.${++this.#nonceCounter}`;
    response.nonce = this.#outstanding;
    response.systemVersionInfo = String(this.#store.sequence);
    return response;
  }

  #answer(request: DeltaDiscoveryRequest): Answer {
    // Answers to anything but the response that is outstanding are stale.
    if (request.responseNonce === '' || request.responseNonce !== this.#outstanding) return { kind: 'none' };
    this.#outstanding = undefined;
    if (request.errorDetail === undefined) return { kind: 'ack' };
    return { kind: 'nack', message: request.errorDetail.message.slice(0, 1000) };
  }

  /** Names whose version differs from what the client holds, and what it holds that is gone. */
  #resume(held: Readonly<Record<string, string>>): string[] {
    const names: string[] = [];
    for (const name of Object.keys(held)) if (this.#store.find(name) === undefined) names.push(name);
    if (this.#wildcard) {
      for (const name of this.#store.names()) if (held[name] !== this.#store.find(name)?.version) names.push(name);
    } else {
      for (const [name, version] of Object.entries(held)) {
        const current = this.#store.find(name)?.version;
        if (current !== undefined && current !== version) names.push(name);
      }
      for (const name of this.#store.onNode(this.#node)) if (held[name] === undefined) names.push(name);
    }
    return names;
  }

  #refill(): void {
    if (this.#synced === this.#store.sequence) return;
    for (const name of this.#store.changedSince(this.#synced)) if (this.#wants(name)) this.#backlog.add(name);
    this.#synced = this.#store.sequence;
  }

  #wants(name: string): boolean {
    if (this.#wildcard || this.#keys.has(name)) return true;
    const resource = this.#store.find(name);
    // A removal of something never sent does no harm.
    if (resource === undefined) return true;
    if (this.#node !== '' && resource.node === this.#node) return true;
    return this.#isAskedFor(resource) || resource.services.some((service) => this.#isServiceAskedFor(service));
  }

  #isAskedFor(resource: Resource): boolean {
    return this.#keys.has(resource.name) || resource.aliases.some((alias) => this.#keys.has(alias));
  }

  #isServiceAskedFor(name: string): boolean {
    if (this.#keys.has(name)) return true;
    const service = this.#store.find(name);
    return service !== undefined && this.#isAskedFor(service);
  }

  /** A key answers with what it names; a service also with its endpoints; an unknown key with its own removal. */
  #expand(key: string): string[] {
    const names = this.#store.resolve(key);
    if (names.length === 0) return [key];
    return names.flatMap((name) => [name, ...this.#store.membersOf(name)]);
  }

  #addKeys(keys: readonly string[]): void {
    for (const key of keys) if (key !== '*') this.#keys.add(key);
    if (this.#keys.size > this.#limits.maxNames) {
      throw new AmbitError('XDS', `a client asked for more than ${this.#limits.maxNames} resources by name`);
    }
  }
}

function asMessage(found: Resource, typeUrl: string): ResourceMessage {
  return {
    $typeName: 'envoy.service.discovery.v3.Resource',
    name: found.name,
    version: found.version,
    aliases: [...found.aliases],
    resource: { $typeName: 'google.protobuf.Any', typeUrl, value: found.bytes },
  };
}

/** No names at all, or `*` without its revocation in the same message. */
function isWildcard(request: DeltaDiscoveryRequest): boolean {
  const { resourceNamesSubscribe: added, resourceNamesUnsubscribe: dropped } = request;
  return (added.length === 0 || added.includes('*')) && !dropped.includes('*');
}
