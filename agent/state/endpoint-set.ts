/**
 * The workloads that say they are endpoints of one service, healthy or not. It exists from the first member on, also
 * before the service itself is known, and survives updates of the service; whoever derives something from it (pick
 * tables) compares `revision`.
 */
import type { Workload } from './workload.ts';

export class EndpointSet {
  readonly #members = new Map<string, Workload>();
  #revision = 0;

  /** Grows with every change. */
  get revision(): number {
    return this.#revision;
  }

  get size(): number {
    return this.#members.size;
  }

  members(): IterableIterator<Workload> {
    return this.#members.values();
  }

  has(uid: string): boolean {
    return this.#members.has(uid);
  }

  /** Adds the workload, or replaces the record with the same uid. */
  put(workload: Workload): void {
    this.#members.set(workload.uid, workload);
    this.#revision++;
  }

  remove(uid: string): void {
    if (this.#members.delete(uid)) this.#revision++;
  }
}
