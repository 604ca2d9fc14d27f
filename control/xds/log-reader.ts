/**
 * Reads everything that its client may see, in the order of the log. A new client begins at the start and skips what it holds already (a bit per
 * resource while it catches up); afterwards it is a position. Responses for clients at the same place are shared.
 */
import type { Resource } from '../discovery/resource.ts';
import type { DiscoveryRequest, HeldResource } from './discovery-request.ts';
import { behindIn, type Reader, type ReaderContext, type Step, shows, type View } from './reader.ts';
import type { LogEntry } from './resource-store.ts';
import { ResponseBuilder } from './response.ts';
import type { ResponseCache } from './response-cache.ts';

const IDLE: Step = { kind: 'idle' };
const MORE: Step = { kind: 'more' };

export class LogReader implements Reader {
  readonly #context: ReaderContext;
  readonly #cache: ResponseCache;
  #position = 0;
  /** The last change when the client came: of older ones it needs no removals, because it never saw what they removed. */
  readonly #start: number;
  #held: Iterator<HeldResource> | undefined;
  /** A bit per slot: what the client held in the current version when it came. Undefined once it has caught up. */
  #skip: Uint8Array | undefined;
  #skipped = 0;
  /** What waits: removals of what the client held, and what was held back. */
  readonly #removals = new Set<string>();
  /** Names to be sent again. */
  readonly #again = new Set<string>();
  readonly #sees: View | undefined;
  #nonces = 0;

  /** `sees`: what the client may see; undefined: everything, and responses are shared with others at the same place. */
  constructor(context: ReaderContext, cache: ResponseCache, sees?: View) {
    this.#context = context;
    this.#cache = cache;
    this.#sees = sees;
    this.#start = context.store.sequence;
  }

  get position(): number {
    return this.#position;
  }

  get hasNews(): boolean {
    return (
      this.#position !== this.#context.store.sequence ||
      this.#removals.size > 0 ||
      this.#again.size > 0 ||
      this.#held !== undefined
    );
  }

  get holdsRemovals(): boolean {
    return this.#removals.size > 0;
  }

  resume(request: DiscoveryRequest): void {
    this.#held = request.held();
    this.#skip = new Uint8Array((this.#context.store.slots + 7) >> 3);
  }

  get isBusy(): boolean {
    return this.#held !== undefined;
  }

  ask(keys: readonly string[], again: boolean): void {
    for (const key of keys) {
      const names = this.#context.store.index.resolve(key).filter((name) => this.#find(name) !== undefined);
      // A key that means nothing is answered by its own removal; everything else comes, or came, without asking.
      if (names.length === 0) this.#again.add(key);
      else if (again) for (const name of names) this.#again.add(name);
    }
  }

  untold(): Iterable<string> {
    return this.#removals;
  }

  owe(removals: Iterable<string>): void {
    for (const name of removals) this.#removals.add(name);
  }

  drop(keys: readonly string[]): void {
    for (const key of keys) this.#again.delete(key);
  }

  behind(): { resources: number; sinceMs: number } {
    const { resources, sinceMs } = behindIn(this.#context.store, this.#position);
    const unskipped = this.#skip === undefined ? resources : Math.max(0, resources - this.#skipped);
    return { resources: unskipped + this.#removals.size + this.#again.size, sinceMs };
  }

  step(holdRemovals: boolean): Step {
    if (this.#held !== undefined) return this.#compare(this.#held);
    if (!this.hasNews) return IDLE;
    const waiting = (this.#removals.size > 0 && !holdRemovals) || this.#again.size > 0 || this.#skip !== undefined;
    return waiting || this.#sees !== undefined ? this.#own(holdRemovals) : this.#shared(holdRemovals);
  }

  /** Marks what the client holds in the current version, and finds what it holds that is gone. */
  #compare(held: Iterator<HeldResource>): Step {
    const { store, limits } = this.#context;
    const skip = this.#skip ?? new Uint8Array(0);
    for (let count = 0; count < limits.stepEntries; count++) {
      const { done, value } = held.next();
      if (done === true || value === undefined) {
        this.#held = undefined;
        // Everything is held: there is nothing to look through.
        if (this.#skipped === store.size && this.#start === store.sequence) this.#caughtUp(this.#start);
        return MORE;
      }
      const entry = store.entry(value.name);
      if (entry?.resource === undefined || this.#sees?.(entry.resource) === false) {
        if (value.version !== '') this.#removals.add(value.name);
        continue;
      }
      const { slot } = entry;
      const bit = 1 << (slot & 7);
      const byte = skip[slot >> 3];
      if (byte === undefined || entry.resource.version !== value.version || (byte & bit) !== 0) continue;
      skip[slot >> 3] = byte | bit;
      this.#skipped++;
    }
    return MORE;
  }

  #shared(holdRemovals: boolean): Step {
    const { store } = this.#context;
    const key = `${this.#position}/${this.#position < this.#start ? this.#start : ''}`;
    const known = this.#cache.find(key);
    if (known !== undefined && !(holdRemovals && known.deferrable > 0)) {
      this.#position = known.sequence;
      return { kind: 'response', response: known };
    }
    const from = this.#position;
    const builder = new ResponseBuilder(this.#context.type, this.#context.replica);
    const withheld = this.#read(builder, holdRemovals);
    if (builder.isEmpty) return this.#position < store.sequence ? MORE : IDLE;
    const more = this.#position < store.sequence;
    const response = builder.finish(`${from}-${this.#position}`, this.#position, more);
    if (!withheld) this.#cache.keep(key, response);
    return { kind: 'response', response };
  }

  #own(holdRemovals: boolean): Step {
    const { store, limits } = this.#context;
    const builder = new ResponseBuilder(this.#context.type, this.#context.replica);
    for (const name of this.#again) {
      if (builder.size >= limits.responseBytes) break;
      const found = this.#find(name);
      if (found === undefined && holdRemovals) continue;
      this.#again.delete(name);
      if (found === undefined || !builder.add(found)) builder.remove(name);
    }
    if (!holdRemovals) {
      for (const name of this.#removals) {
        if (builder.size >= limits.responseBytes) break;
        this.#removals.delete(name);
        const found = this.#find(name);
        if (found === undefined) builder.remove(name);
        else if (found.late === true) builder.add(found);
      }
    }
    this.#read(builder, holdRemovals);
    const more = this.#position < store.sequence || (this.#removals.size > 0 && !holdRemovals);
    if (builder.isEmpty) return more ? MORE : IDLE;
    return { kind: 'response', response: builder.finish(`own-${++this.#nonces}`, this.#position, more) };
  }

  /** Takes entries until the response is full or the step used up. True when removals were held back. */
  #read(builder: ResponseBuilder, holdRemovals: boolean): boolean {
    const { store, limits, type } = this.#context;
    let withheld = false;
    let index = store.indexAfter(this.#position);
    let left = limits.stepEntries;
    for (; index < store.length && left > 0 && builder.size < limits.responseBytes; index++, left--) {
      const entry = store.at(index);
      if (entry === undefined) break;
      this.#position = entry.sequence;
      if (!entry.latest) continue;
      if (entry.resource !== undefined && this.#sees?.(entry.resource) !== false) {
        if (holdRemovals && entry.resource.late === true && entry.sequence > this.#start) {
          this.#removals.add(entry.name);
          withheld = true;
        } else if (!this.#isHeld(entry)) builder.add(entry.resource);
      } else if (entry.sequence > this.#start && shows(type, entry.removed ?? entry.resource) && this.#saw(entry)) {
        if (holdRemovals) {
          this.#removals.add(entry.name);
          withheld = true;
        } else builder.remove(entry.name);
      }
    }
    if (index >= store.length) this.#position = store.sequence;
    if (this.#position >= this.#start) this.#caughtUp(this.#position);
    return withheld;
  }

  #find(name: string): Resource | undefined {
    const found = this.#context.store.find(name);
    return found === undefined || this.#sees?.(found) === false ? undefined : found;
  }

  /** True when the client may have been told of it before it went, or was hidden from it. */
  #saw({ removed, formerViews }: LogEntry): boolean {
    const sees = this.#sees;
    if (sees === undefined || (removed !== undefined && sees(removed))) return true;
    return formerViews?.some((privateTo) => sees({ privateTo })) === true;
  }

  #isHeld({ slot, sequence }: LogEntry): boolean {
    return (
      this.#skip !== undefined && sequence <= this.#start && ((this.#skip[slot >> 3] ?? 0) & (1 << (slot & 7))) !== 0
    );
  }

  #caughtUp(position: number): void {
    this.#position = position;
    this.#skip = undefined;
    this.#skipped = 0;
  }
}
