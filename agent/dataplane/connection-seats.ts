/**
 * Counts the connections of one worker by pod and refuses those beyond a pod's fair share (fair-share.ts). The one owner
 * of these counts: a connection holds a seat from its acceptance to its end, however it ends.
 */
import { readFileSync } from 'node:fs';
import { AmbitError } from '../../core/errors.ts';
import { DESCRIPTORS_PER_CONNECTION, mayConnect, parseDescriptorLimit } from './fair-share.ts';

/** Beyond one refusal of a pod in this time, refusals are counted but not logged. */
const LOG_INTERVAL_MS = 1000;

/** The right to one connection. */
export interface Seat {
  /** The connection has ended; further calls do nothing. */
  release(): void;
}

export class ConnectionSeats {
  readonly #limit: number;
  readonly #pods: { readonly size: number };
  readonly #nowMs: () => number;
  readonly #uses = new WeakMap<object, PodUse>();
  #connections = 0;

  /** `limit`: descriptors of this worker. `pods`: the captured pods, by whatever object stands for a pod in `take`. */
  constructor(limit: number, pods: { readonly size: number }, nowMs: () => number) {
    this.#limit = limit;
    this.#pods = pods;
    this.#nowMs = nowMs;
  }

  /** Seats that are taken now. */
  get taken(): number {
    return this.#connections;
  }

  /** Undefined: the pod has its fair share; say so with `refusal`. */
  take(pod: object): Seat | undefined {
    const use = this.#useOf(pod);
    const asked = { limit: this.#limit, pods: this.#pods.size, connections: this.#connections, ofPod: use.connections };
    if (!mayConnect(asked)) return undefined;
    use.connections++;
    this.#connections++;
    let held = true;
    return {
      release: () => {
        if (!held) return;
        held = false;
        use.connections--;
        this.#connections--;
      },
    };
  }

  /** The refusal of one connection, and whether it is to be logged. */
  refusal(pod: object): { readonly error: AmbitError; readonly logged: boolean } {
    const use = this.#useOf(pod);
    const now = this.#nowMs();
    const logged = now - use.loggedAtMs >= LOG_INTERVAL_MS;
    const silent = use.silent;
    use.silent = logged ? 0 : silent + 1;
    if (logged) use.loggedAtMs = now;
    const share = Math.floor(this.#limit / this.#pods.size / DESCRIPTORS_PER_CONNECTION);
    const detail = `the pod has ${use.connections} connections, its fair share is ${share}; ${silent} refused without a line`;
    return { error: new AmbitError('FAIR_SHARE', detail), logged };
  }

  #useOf(pod: object): PodUse {
    let use = this.#uses.get(pod);
    if (use === undefined) {
      use = { connections: 0, loggedAtMs: Number.NEGATIVE_INFINITY, silent: 0 };
      this.#uses.set(pod, use);
    }
    return use;
  }
}

interface PodUse {
  connections: number;
  loggedAtMs: number;
  /** Refusals since the last line. */
  silent: number;
}

/** What each of `workers` may use of the limit of this process; unlimited when the kernel names no limit. */
export function descriptorsPerWorker(workers: number): number {
  const limit = parseDescriptorLimit(readFileSync('/proc/self/limits', 'latin1')) ?? Number.POSITIVE_INFINITY;
  return limit / workers;
}
