/**
 * Who talks to whom right now: access-log records of the last seconds, gathered by pair of pods. Pure but for the clock
 * that is passed in.
 *
 * A captured connection is in two logs. It counts once: where its path starts (outbound), except plaintext into the mesh and
 * refusals by policy, which only the destination's agent can tell.
 */
import { type AccessRecord, hostOf } from './access-record.ts';
import type { CallReport } from './apps/call-statistics.ts';

/** What the table must know about a pod. */
export interface FlowPod {
  /** `namespace/name` */
  readonly key: string;
  readonly node: string;
  readonly ip: string;
}

export interface Flow {
  readonly from: string;
  readonly fromNode: string;
  readonly to: string;
  readonly toNode: string;
  readonly path: 'hbone' | 'same node' | 'plaintext' | 'DENIED' | 'FAILED';
  /** `client -> server` as service accounts, or `none`. */
  readonly identity: string;
  readonly perSecond: number;
  /** Undefined until the caller reported one. */
  readonly p50Ms: number | undefined;
  /** Policy or error behind DENIED and FAILED. */
  readonly detail: string | undefined;
}

export const WINDOW_MS = 4000;
const MAX_RECORDS_PER_FLOW = 20_000;
/** A pair that was silent for this long leaves the table. */
const FORGET_AFTER_MS = 15_000;
const DENIALS: ReadonlySet<string> = new Set(['POLICY_DENIED', 'POLICY_UNKNOWN', 'POLICY_CHANGED', 'REGISTRY_ONLY']);

interface Pair {
  readonly from: FlowPod;
  readonly to: FlowPod;
  times: number[];
  last: AccessRecord;
}

export class FlowTable {
  readonly #pairs = new Map<string, Pair>();
  /** Latest median by `from pod key` and `answering pod name`. */
  readonly #latencies = new Map<string, number>();
  readonly #findPod: (ip: string) => FlowPod | undefined;

  constructor(findPod: (ip: string) => FlowPod | undefined) {
    this.#findPod = findPod;
  }

  add(record: AccessRecord, nowMs: number): void {
    if (!isTold(record)) return;
    const from = this.#end(hostOf(record.sourceAddress));
    const to = this.#end(hostOf(record.hboneAddress ?? record.destinationAddress), record.destinationService);
    const key = `${from.key} ${to.key}`;
    const pair = this.#pairs.get(key) ?? { from, to, times: [], last: record };
    if (pair.times.length === 0) this.#pairs.set(key, pair);
    pair.last = record;
    if (pair.times.length < MAX_RECORDS_PER_FLOW) pair.times.push(nowMs);
  }

  /** `pod` is the key of the pod whose process reported. */
  addCalls(pod: string, calls: readonly CallReport[]): void {
    for (const call of calls) if (call.pod !== '') this.#latencies.set(`${pod} ${call.pod}`, call.p50Ms);
  }

  /** The rows, in the order in which the pairs first met. */
  rows(nowMs: number): Flow[] {
    const flows: Flow[] = [];
    for (const [key, pair] of this.#pairs) {
      const newest = pair.times.at(-1) ?? 0;
      if (nowMs - newest > FORGET_AFTER_MS) {
        this.#pairs.delete(key);
        continue;
      }
      pair.times = pair.times.filter((time, index) => nowMs - time <= WINDOW_MS || index === pair.times.length - 1);
      const recent = pair.times.filter((time) => nowMs - time <= WINDOW_MS).length;
      flows.push(this.#row(pair, recent / (WINDOW_MS / 1000)));
    }
    return flows;
  }

  #row(pair: Pair, perSecond: number): Flow {
    const { from, to, last } = pair;
    const path = pathOf(last);
    return {
      from: from.key,
      fromNode: from.node,
      to: to.key,
      toNode: to.node,
      path,
      identity: identityOf(last),
      perSecond,
      p50Ms: path === 'DENIED' ? undefined : this.#latencies.get(`${from.key} ${to.key.split('/')[1] ?? ''}`),
      detail: path === 'DENIED' ? (last.policy ?? last.error) : last.error,
    };
  }

  #end(ip: string, service?: string): FlowPod {
    return this.#findPod(ip) ?? { key: service ?? ip, node: '', ip };
  }
}

/** True for the one record of a connection that the table counts. */
function isTold(record: AccessRecord): boolean {
  const denied = record.reason !== undefined && DENIALS.has(record.reason);
  if (record.direction === 'inbound') return record.path === 'plaintext' || (denied && record.path !== 'same-node');
  // The other agent refused the stream; its own record says why.
  return record.reason !== 'TUNNEL_STATUS';
}

function pathOf(record: AccessRecord): Flow['path'] {
  if (record.reason !== undefined && DENIALS.has(record.reason)) return 'DENIED';
  if (record.error !== undefined) return 'FAILED';
  if (record.path === 'same-node') return 'same node';
  return record.path === 'hbone' ? 'hbone' : 'plaintext';
}

function identityOf(record: AccessRecord): string {
  const account = (identity: string | undefined): string => identity?.split('/').at(-1) ?? '?';
  if (record.sourceIdentity === undefined && record.destinationIdentity === undefined) return 'none';
  if (record.sourceIdentity === undefined) return 'none';
  return `${account(record.sourceIdentity)} -> ${account(record.destinationIdentity)}`;
}
