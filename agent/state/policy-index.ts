/**
 * The policies by key and by where they apply, split the way evaluation walks them: enforced DENY, enforced ALLOW, and
 * dry runs apart. A policy that changes its scope moves.
 */
import type { Policy } from './policy.ts';

export interface PolicySet {
  readonly deny: readonly Policy[];
  readonly allow: readonly Policy[];
  readonly dryRun: readonly Policy[];
}

const NONE: PolicySet = { deny: [], allow: [], dryRun: [] };

export class PolicyIndex {
  readonly #byKey = new Map<string, Policy>();
  readonly #byNamespace = new Map<string, PolicySet>();
  #global = NONE;
  #dryRuns = 0;

  get size(): number {
    return this.#byKey.size;
  }

  get hasDryRuns(): boolean {
    return this.#dryRuns > 0;
  }

  values(): IterableIterator<Policy> {
    return this.#byKey.values();
  }

  find(key: string): Policy | undefined {
    return this.#byKey.get(key);
  }

  /** Those for every workload. */
  get global(): PolicySet {
    return this.#global;
  }

  /** Those for every workload of the namespace. */
  ofNamespace(namespace: string): PolicySet {
    return this.#byNamespace.get(namespace) ?? NONE;
  }

  /** Adds the policy or replaces the one with its key. */
  put(policy: Policy): void {
    this.remove(policy.key);
    this.#byKey.set(policy.key, policy);
    if (policy.dryRun) this.#dryRuns++;
    this.#edit(policy, (list) => [...list, policy].sort((a, b) => (a.key < b.key ? -1 : 1)));
  }

  /** True when there was one. */
  remove(key: string): boolean {
    const policy = this.#byKey.get(key);
    if (policy === undefined) return false;
    this.#byKey.delete(key);
    if (policy.dryRun) this.#dryRuns--;
    this.#edit(policy, (list) => list.filter((other) => other !== policy));
    return true;
  }

  #edit(policy: Policy, change: (list: readonly Policy[]) => readonly Policy[]): void {
    const kind = policy.dryRun ? 'dryRun' : policy.action === 'DENY' ? 'deny' : 'allow';
    if (policy.scope === 'GLOBAL') this.#global = { ...this.#global, [kind]: change(this.#global[kind]) };
    if (policy.scope !== 'NAMESPACE') return;
    const old = this.ofNamespace(policy.namespace);
    const edited = { ...old, [kind]: change(old[kind]) };
    if (edited.deny.length + edited.allow.length + edited.dryRun.length === 0)
      this.#byNamespace.delete(policy.namespace);
    else this.#byNamespace.set(policy.namespace, edited);
  }
}
