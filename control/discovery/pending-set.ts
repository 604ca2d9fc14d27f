/**
 * A set that is worked off in the order in which members came; a member that comes again while it waits keeps its place.
 * Taking the first member of a plain Set again and again would step over all that were taken before.
 */
export class PendingSet<T> {
  readonly #members = new Set<T>();
  #next = this.#members.values();

  get size(): number {
    return this.#members.size;
  }

  add(member: T): void {
    this.#members.add(member);
  }

  has(member: T): boolean {
    return this.#members.has(member);
  }

  delete(member: T): void {
    this.#members.delete(member);
  }

  /** Takes the next member out; undefined when there is none. */
  take(): T | undefined {
    if (this.#members.size === 0) return undefined;
    let { done, value } = this.#next.next();
    if (done === true) {
      // An iterator that has reached the end stays there.
      this.#next = this.#members.values();
      ({ done, value } = this.#next.next());
    }
    if (value !== undefined) this.#members.delete(value);
    return value;
  }
}
