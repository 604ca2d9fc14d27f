/** The conditions of all objects as they are now, and which objects have others than when it was last asked. */
import type { ObjectKey } from '../objects/object.ts';
import type { ObjectCondition } from './condition.ts';
import { sameValue } from './same-value.ts';

const NONE: readonly ObjectCondition[] = [];

export class Conditions {
  readonly #current = new Map<ObjectKey, readonly ObjectCondition[]>();
  #changed = new Set<ObjectKey>();

  /** Replaces what is said of an object; nothing at all for an object that is gone. */
  set(key: ObjectKey, conditions: readonly (ObjectCondition | undefined)[]): void {
    const next = conditions.filter((condition) => condition !== undefined);
    if (sameValue(this.#current.get(key) ?? NONE, next)) return;
    if (next.length === 0) this.#current.delete(key);
    else this.#current.set(key, next);
    this.#changed.add(key);
  }

  /** A live view. */
  get all(): ReadonlyMap<ObjectKey, readonly ObjectCondition[]> {
    return this.#current;
  }

  /** Objects whose conditions changed since the last call, also those that have none any more. */
  takeChanged(): ReadonlySet<ObjectKey> {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }
}
