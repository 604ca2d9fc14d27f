/**
 * Reads a part of the store for a client that asks by name, and remembers what it sent: a client is told of the removal of
 * what it has and of nothing else.
 *
 * A service brings its endpoints along, those of the moment when it is sent and all that join it later; a client on a node is told of the workloads of its node without asking. The sets
 * hold names that exist in the store, or keys that the client was allowed to ask for, so they are bounded by both.
 */
import type { Resource } from '../discovery/resource.ts';
import type { DiscoveryRequest, HeldResource } from './discovery-request.ts';
import { behindIn, type Reader, type ReaderContext, type Step, shows, type View } from './reader.ts';
import { ResponseBuilder } from './response.ts';

const IDLE: Step = { kind: 'idle' };
const MORE: Step = { kind: 'more' };

export interface TrackedClient {
  /** Names and aliases asked for; owned and bounded by the subscription. */
  readonly keys: ReadonlySet<string>;
  /** Workloads of this node are always included; empty: of none. */
  readonly node: string;
  readonly sees: View;
}

export class TrackedReader implements Reader {
  readonly #context: ReaderContext;
  readonly #client: TrackedClient;
  #position: number;
  #held: Iterator<HeldResource> | undefined;
  /** What the client has, as far as this process knows. */
  readonly #sent = new Set<string>();
  readonly #backlog = new Set<string>();
  /** Keys whose meaning is still to be looked up. */
  #asked: string[] = [];
  /** Whether keys that are looked up also bring what was sent before. */
  #again = false;
  #nonces = 0;
  /** The last change when the client came. */
  readonly #start: number;
  /** Since when the oldest of the backlog waits, milliseconds of `performance.now`. */
  #sinceMs = 0;

  constructor(context: ReaderContext, client: TrackedClient) {
    this.#context = context;
    this.#client = client;
    this.#start = context.store.sequence;
    this.#position = this.#start;
    if (client.node !== '') {
      for (const name of context.store.index.onNode(client.node)) this.#add(name);
    }
  }

  get position(): number {
    return this.#position;
  }

  get hasNews(): boolean {
    return (
      this.#position !== this.#context.store.sequence ||
      this.#backlog.size > 0 ||
      this.#asked.length > 0 ||
      this.#held !== undefined
    );
  }

  get holdsRemovals(): boolean {
    return this.#backlog.size > 0;
  }

  resume(request: DiscoveryRequest): void {
    this.#held = request.held();
  }

  get isBusy(): boolean {
    return this.#held !== undefined || this.#asked.length > 0;
  }

  ask(keys: readonly string[], again: boolean): void {
    for (const key of keys) this.#asked.push(key);
    this.#again = again;
  }

  *untold(): Iterable<string> {
    for (const name of this.#sent) if (!this.#isVisible(name)) yield name;
  }

  owe(removals: Iterable<string>): void {
    for (const name of removals) this.#add(name);
  }

  /** What only these keys brought is the client's to forget; nothing is sent about it any more. */
  drop(keys: readonly string[]): void {
    const { index } = this.#context.store;
    if (this.#asked.length > 0) {
      const dropped = new Set(keys);
      this.#asked = this.#asked.filter((key) => !dropped.has(key));
    }
    for (const key of keys) {
      this.#backlog.delete(key);
      for (const name of index.resolve(key)) {
        this.#forget(name);
        for (const member of index.membersOf(name)) this.#forget(member);
      }
    }
  }

  behind(): { resources: number; sinceMs: number } {
    const waiting = this.#backlog.size + this.#asked.length;
    return waiting > 0 ? { resources: waiting, sinceMs: this.#sinceMs } : behindIn(this.#context.store, this.#position);
  }

  step(holdRemovals: boolean): Step {
    if (this.#held !== undefined) return this.#compare(this.#held);
    if (this.#asked.length > 0) return this.#lookUp();
    if (this.#position !== this.#context.store.sequence) {
      this.#refill();
      if (this.#position !== this.#context.store.sequence && this.#backlog.size === 0) return MORE;
    }
    return this.#respond(holdRemovals);
  }

  #compare(held: Iterator<HeldResource>): Step {
    const { store, limits } = this.#context;
    for (let count = 0; count < limits.stepEntries; count++) {
      const { done, value } = held.next();
      if (done === true || value === undefined) {
        this.#held = undefined;
        return MORE;
      }
      const { name, version } = value;
      const found = store.find(name);
      if (found === undefined || !this.#client.sees(found)) {
        // Without a version: asked for and not received before the stream ended.
        if (version === '') this.#asked.push(name);
        else this.#add(name);
        continue;
      }
      this.#sent.add(found.name);
      // What it brings along may have come while the client was away.
      for (const member of store.index.membersOf(found.name)) this.#bring(member);
      if (found.version !== version) this.#add(found.name);
      else this.#backlog.delete(found.name);
    }
    return MORE;
  }

  /** A key stands for what it names; a service also for its endpoints; an unknown key for its own removal. */
  #lookUp(): Step {
    const { index } = this.#context.store;
    const keys = this.#asked.splice(0, Math.ceil(this.#context.limits.stepEntries / 16));
    const services = new Set<string>();
    for (const key of keys) {
      const names = index.resolve(key).filter((name) => this.#isVisible(name));
      if (names.length === 0) this.#add(key);
      for (const name of names) {
        this.#bring(name);
        services.add(name);
      }
    }
    for (const service of services) for (const member of index.membersOf(service)) this.#bring(member);
    return MORE;
  }

  #bring(name: string): void {
    if (this.#again || !this.#sent.has(name)) this.#add(name);
  }

  #add(name: string, sinceMs = performance.now()): void {
    if (this.#backlog.size === 0) this.#sinceMs = sinceMs;
    this.#backlog.add(name);
  }

  #refill(): void {
    const { store, limits } = this.#context;
    let index = store.indexAfter(this.#position);
    for (let left = limits.stepEntries; index < store.length && left > 0; index++, left--) {
      const entry = store.at(index);
      if (entry === undefined) break;
      this.#position = entry.sequence;
      if (!entry.latest) continue;
      const { name, resource } = entry;
      // What the client held when it came was compared already.
      if (entry.sequence <= this.#start && this.#sent.has(name)) continue;
      const wanted = resource !== undefined && this.#client.sees(resource) && this.#wants(resource);
      if (wanted || this.#sent.has(name)) this.#add(name, entry.atMs);
    }
    if (index >= store.length) this.#position = store.sequence;
  }

  #respond(holdRemovals: boolean): Step {
    const { store, limits, type } = this.#context;
    const builder = new ResponseBuilder(type, this.#context.replica);
    let left = limits.stepEntries;
    for (const name of this.#backlog) {
      if (builder.size >= limits.responseBytes || left-- <= 0) break;
      const found = store.find(name);
      if (found !== undefined && this.#client.sees(found)) {
        if (holdRemovals && found.late === true && this.#sent.has(name)) continue;
        this.#backlog.delete(name);
        if (!this.#sent.has(name)) this.#bringMembers(name);
        if (builder.add(found)) this.#sent.add(name);
      } else if (!holdRemovals) {
        this.#backlog.delete(name);
        this.#sent.delete(name);
        builder.remove(name);
      }
    }
    const more = this.#position !== store.sequence || (this.#backlog.size > 0 && !holdRemovals);
    if (builder.isEmpty) return more ? MORE : IDLE;
    return { kind: 'response', response: builder.finish(`own-${++this.#nonces}`, this.#position, more) };
  }

  #bringMembers(service: string): void {
    for (const member of this.#context.store.index.membersOf(service)) {
      if (!this.#sent.has(member)) this.#add(member);
    }
  }

  #wants(resource: Resource): boolean {
    if (!shows(this.#context.type, resource)) return false;
    const { node } = this.#client;
    if (this.#sent.has(resource.name)) return true;
    if (node !== '' && resource.node === node) return true;
    return this.#isAskedFor(resource) || resource.services.some((name) => this.#sent.has(name));
  }

  #isAskedFor({ name, aliases }: Resource): boolean {
    const { keys } = this.#client;
    return keys.has(name) || aliases.some((alias) => keys.has(alias));
  }

  #isVisible(name: string): boolean {
    const found = this.#context.store.find(name);
    return found !== undefined && this.#client.sees(found);
  }

  #forget(name: string): void {
    const resource = this.#context.store.find(name);
    if (resource === undefined) return;
    const had = this.#sent.delete(name);
    if (!this.#wants(resource)) this.#backlog.delete(name);
    else if (had) this.#sent.add(name);
  }
}
