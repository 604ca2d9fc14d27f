/**
 * What is served, of one resource type, with the log of its changes.
 *
 * A subscription remembers only how far it has read the log, never which resources its client holds: a thousand agents
 * that wait for news cost nothing per resource.
 *
 *   resources   name -> { resource, sequence of its last change }
 *   log         [ (sequence, name), ... ] ascending; of the entries of a name only the last one counts
 *
 * The log keeps removals until every open subscription has read them (`trim`), and is rewritten when most of its
 * entries no longer count.
 */
import type { Resource, ResourceType, ResourceUpdate } from '../discovery/resource.ts';

interface Entry {
  readonly resource: Resource | undefined;
  readonly sequence: number;
}

const COMPACT_ABOVE = 1024;

export class ResourceStore {
  readonly type: ResourceType;
  readonly #entries = new Map<string, Entry>();
  readonly #aliases = new Map<string, Set<string>>();
  /** Service name to the names of its endpoints. */
  readonly #members = new Map<string, Set<string>>();
  readonly #byNode = new Map<string, Set<string>>();
  #log: { readonly sequence: number; readonly name: string }[] = [];
  #sequence = 0;
  #live = 0;

  constructor(type: ResourceType) {
    this.type = type;
  }

  /** Number of the last change; what a subscription that has seen everything remembers. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Resources that exist. */
  get size(): number {
    return this.#live;
  }

  /** Removals that are still remembered. */
  get removals(): number {
    return this.#entries.size - this.#live;
  }

  /** Takes updates over; true when anything differs from before. */
  publish(updates: readonly ResourceUpdate[]): boolean {
    const before = this.#sequence;
    for (const { type, name, resource } of updates) {
      if (type !== this.type) continue;
      const current = this.#entries.get(name)?.resource;
      if (current?.version === resource?.version) continue;
      if (current !== undefined) this.#index(current, false);
      if (resource !== undefined) this.#index(resource, true);
      this.#live += (resource === undefined ? 0 : 1) - (current === undefined ? 0 : 1);
      this.#sequence++;
      this.#entries.set(name, { resource, sequence: this.#sequence });
      this.#log.push({ sequence: this.#sequence, name });
    }
    if (this.#log.length > COMPACT_ABOVE + 2 * this.#entries.size) this.#compact();
    return this.#sequence !== before;
  }

  find(name: string): Resource | undefined {
    return this.#entries.get(name)?.resource;
  }

  /** Names of everything that exists. */
  *names(): Iterable<string> {
    for (const [name, { resource }] of this.#entries) if (resource !== undefined) yield name;
  }

  /** Names that changed or vanished after `sequence`, each once. */
  changedSince(sequence: number): string[] {
    let low = 0;
    let high = this.#log.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#log[middle]?.sequence ?? 0) <= sequence) low = middle + 1;
      else high = middle;
    }
    const names: string[] = [];
    for (let index = low; index < this.#log.length; index++) {
      const entry = this.#log[index];
      if (entry !== undefined && this.#counts(entry)) names.push(entry.name);
    }
    return names;
  }

  /** Names of resources that `key` means: the name itself, or those that carry it as an alias. */
  resolve(key: string): string[] {
    if (this.find(key) !== undefined) return [key];
    return [...(this.#aliases.get(key) ?? [])];
  }

  membersOf(service: string): Iterable<string> {
    return this.#members.get(service) ?? [];
  }

  onNode(node: string): Iterable<string> {
    return this.#byNode.get(node) ?? [];
  }

  /** Forgets removals that every subscription has read: `oldest` is the smallest sequence any of them remembers. */
  trim(oldest: number): void {
    for (const [name, { resource, sequence }] of this.#entries) {
      if (resource === undefined && sequence <= oldest) this.#entries.delete(name);
    }
    this.#compact();
  }

  #compact(): void {
    this.#log = this.#log.filter((entry) => this.#counts(entry));
  }

  #counts(entry: { readonly sequence: number; readonly name: string }): boolean {
    return this.#entries.get(entry.name)?.sequence === entry.sequence;
  }

  #index(resource: Resource, present: boolean): void {
    for (const alias of resource.aliases) change(this.#aliases, alias, resource.name, present);
    for (const service of resource.services) change(this.#members, service, resource.name, present);
    if (resource.node !== '') change(this.#byNode, resource.node, resource.name, present);
  }
}

function change(index: Map<string, Set<string>>, key: string, name: string, present: boolean): void {
  const names = index.get(key) ?? new Set<string>();
  if (present) names.add(name);
  else names.delete(name);
  if (names.size === 0) index.delete(key);
  else index.set(key, names);
}
