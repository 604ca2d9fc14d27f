/**
 * Pools that make equal values the same object. A mesh of 100,000 pods has a few hundred namespaces, nodes, localities
 * and waypoints; sharing them is what keeps a workload record small. A pool is only a means against duplicates: when it
 * reaches its bound it starts afresh, records that hold its values keep them, and nothing but memory is different.
 */
import type { SpiffeId } from '../../core/spiffe.ts';
import type { GatewayAddress, Locality, Membership } from './workload.ts';

/** Values a pool holds before it starts afresh. */
export const SHARED_VALUES_BOUND = 65_536;

class Pool<Value> {
  readonly #values = new Map<string, Value>();

  get(key: string, make: () => Value): Value {
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    if (this.#values.size >= SHARED_VALUES_BOUND) this.#values.clear();
    const value = make();
    this.#values.set(key, value);
    return value;
  }
}

export class SharedValues {
  readonly gateways = new Pool<GatewayAddress>();
  readonly localities = new Pool<Locality>();
  readonly memberships = new Pool<readonly Membership[]>();
  readonly policyLists = new Pool<readonly string[]>();
  readonly identities = new Pool<readonly SpiffeId[]>();
  readonly #texts = new Pool<string>();

  /** A string equal to `value`, the same one for every caller. */
  text(value: string): string {
    return value === '' ? '' : this.#texts.get(value, () => value);
  }
}
