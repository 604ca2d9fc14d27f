/**
 * One client's subscription to one type: what it asked for, which response waits for its answer, and a reader for what to
 * send next. State without a stream.
 *
 *   request     subscribe / resume / unsubscribe / acknowledge / refuse
 *   step        one bounded piece of work; nothing while a response waits for its answer, news gathers in the log
 *
 * Modes: a wildcard gets everything, anything else what it asked for by name. A client whose view is restricted gets
 * what it may see of either.
 */
import { AmbitError } from '../../core/errors.ts';
import type { DiscoveryRequest } from './discovery-request.ts';
import { LogReader } from './log-reader.ts';
import type { Reader, ReaderContext, Step, View } from './reader.ts';
import { ResponseBuilder } from './response.ts';
import type { ResponseCache } from './response-cache.ts';
import { TrackedReader } from './tracked-reader.ts';

export interface SubscriptionLimits {
  /** Names one client may ask for by name, of one type. */
  readonly maxNames: number;
  /** Their length together, bytes. */
  readonly maxNameBytes: number;
}

export const SUBSCRIPTION_LIMITS: SubscriptionLimits = { maxNames: 50_000, maxNameBytes: 4 * 1024 * 1024 };

export interface SubscriptionContext extends ReaderContext {
  readonly cache: ResponseCache;
  readonly subscriptionLimits: SubscriptionLimits;
  /** Node of the caller; empty: none. */
  readonly node: string;
  /** What the caller may see; undefined: everything. */
  readonly sees: View | undefined;
}

export type Answer =
  | { readonly kind: 'none' }
  | { readonly kind: 'ack'; readonly nonce: string; readonly sequence: number }
  | { readonly kind: 'nack'; readonly nonce: string; readonly sequence: number; readonly message: string };

const IDLE: Step = { kind: 'idle' };

export class Subscription {
  readonly #context: SubscriptionContext;
  /** Keys asked for by name: names or aliases. */
  readonly #keys = new Set<string>();
  #keyBytes = 0;
  #wildcard: boolean;
  #reader: Reader;
  #outstanding: { readonly nonce: string; readonly sequence: number } | undefined;
  /** The first response is sent even when it is empty: clients wait for it. */
  #greeted = false;

  /** `request` is the first of its type on the stream. @throws AmbitError `XDS` when it asks for too much */
  constructor(context: SubscriptionContext, request: DiscoveryRequest) {
    this.#context = context;
    const names = [...request.subscribed()];
    const dropped = new Set(request.unsubscribed());
    this.#wildcard = (names.length === 0 || names.includes('*')) && !dropped.has('*');
    const keys = this.#addKeys(names);
    this.#reader = this.#openReader();
    if (request.holds > 0) this.#reader.resume(request);
    if (keys.length > 0) this.#reader.ask(keys, false);
  }

  get isWildcard(): boolean {
    return this.#wildcard;
  }

  get names(): number {
    return this.#keys.size;
  }

  /** Number of the last change this subscription does not need from the log any more. */
  get position(): number {
    return this.#reader.position;
  }

  get isWaiting(): boolean {
    return this.#outstanding !== undefined;
  }

  get isBusy(): boolean {
    return this.#reader.isBusy;
  }

  /** True when nothing is left to send and nothing waits for an answer: the client has everything. */
  get isSynced(): boolean {
    return !this.isWaiting && !this.hasNews;
  }

  get hasNews(): boolean {
    return !this.#greeted || this.#reader.hasNews;
  }

  /** True while removals wait that were held back. */
  get holdsRemovals(): boolean {
    return this.#reader.holdsRemovals;
  }

  behind(): { readonly resources: number; readonly sinceMs: number } {
    return this.#reader.behind();
  }

  /** Takes a later request of the same type. @throws AmbitError `XDS` when it asks for too much */
  request(request: DiscoveryRequest): Answer {
    if (request.unsubscribes > 0) this.#unsubscribe([...request.unsubscribed()]);
    if (request.subscribes > 0) this.#subscribe([...request.subscribed()]);
    return this.#answer(request);
  }

  /** One bounded piece of work. After a response nothing is sent until its answer is in. */
  step(holdRemovals: boolean): Step {
    if (this.isWaiting && !this.isBusy) return IDLE;
    let step = this.#reader.step(holdRemovals);
    if (step.kind === 'idle' && !this.#greeted) {
      const { type, replica } = this.#context;
      const response = new ResponseBuilder(type, replica).finish('first', this.#reader.position, false);
      step = { kind: 'response', response };
    }
    if (step.kind === 'response') {
      this.#greeted = true;
      this.#outstanding = step.response;
    }
    return step;
  }

  #openReader(): Reader {
    const { sees, node, cache } = this.#context;
    if (this.#wildcard) return new LogReader(this.#context, cache, sees);
    const client = { keys: this.#keys, node, sees: sees ?? (() => true) };
    return new TrackedReader(this.#context, client);
  }

  #subscribe(names: readonly string[]): void {
    if (names.includes('*') && !this.#wildcard) {
      this.#wildcard = true;
      const before = this.#reader;
      this.#reader = this.#openReader();
      this.#reader.owe(before.untold());
    }
    const keys = this.#addKeys(names);
    // Whatever is subscribed again is sent again: the client may have dropped it.
    if (keys.length > 0) this.#reader.ask(keys, true);
  }

  #unsubscribe(names: readonly string[]): void {
    const dropped = names.filter((name) => this.#keys.delete(name));
    for (const name of dropped) this.#keyBytes -= name.length;
    if (names.includes('*') && this.#wildcard) {
      // The client forgets everything but what it asks for by name.
      this.#wildcard = false;
      this.#reader = this.#openReader();
      this.#reader.ask([...this.#keys], true);
    } else if (dropped.length > 0) this.#reader.drop(dropped);
  }

  #answer(request: DiscoveryRequest): Answer {
    // Answers to anything but the response that is outstanding are stale.
    const outstanding = this.#outstanding;
    if (outstanding === undefined || request.responseNonce !== outstanding.nonce) return { kind: 'none' };
    this.#outstanding = undefined;
    const { nonce, sequence } = outstanding;
    if (request.refusal === undefined) return { kind: 'ack', nonce, sequence };
    return { kind: 'nack', nonce, sequence, message: request.refusal };
  }

  /** The names that are keys: all but `*`. */
  #addKeys(names: readonly string[]): string[] {
    const { maxNames, maxNameBytes } = this.#context.subscriptionLimits;
    const keys = names.filter((name) => name !== '*');
    for (const key of keys) {
      if (this.#keys.has(key)) continue;
      this.#keys.add(key);
      this.#keyBytes += key.length;
    }
    if (this.#keys.size > maxNames || this.#keyBytes > maxNameBytes) {
      throw new AmbitError(
        'XDS',
        `a client asked for more than ${maxNames} resources, or ${maxNameBytes} bytes, by name`,
      );
    }
    return keys;
  }
}
