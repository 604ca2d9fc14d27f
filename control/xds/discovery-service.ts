/**
 * The delta xDS service: the streams of all authenticated clients over the resource stores.
 *
 * It owns admission (number of streams), the log positions that keep the stores small, and the end of streams.
 * What happens inside one stream is in `discovery-stream.ts`.
 */
import type { EventEmitter } from 'node:events';
import { status } from '@grpc/grpc-js';
import type { DeltaDiscoveryResponse } from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { AmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { Caller } from '../authentication.ts';
import { RESOURCE_TYPES, type ResourceType, type ResourceUpdate } from '../discovery/resource.ts';
import type { ControlMetrics } from '../metrics.ts';
import { type ClientState, DiscoveryStream } from './discovery-stream.ts';
import { ResourceStore } from './resource-store.ts';

/** What is used of a `ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>`. */
export interface DiscoveryCall extends EventEmitter {
  write(response: DeltaDiscoveryResponse): boolean;
  end(): void;
  resume(): unknown;
  getPeer(): string;
}

export interface DiscoveryLimits {
  readonly maxStreams: number;
  /** Streams of one caller (node, or service account without a node). */
  readonly maxStreamsPerCaller: number;
  /** A client that leaves a response unanswered this long is disconnected. */
  readonly answerTimeoutMs: number;
  /** Requests one stream may send at once, and per second in the long run. */
  readonly requestBurst: number;
  readonly requestsPerSecond: number;
}

export const DISCOVERY_LIMITS: DiscoveryLimits = {
  maxStreams: 10_000,
  maxStreamsPerCaller: 8,
  answerTimeoutMs: 60_000,
  requestBurst: 1000,
  requestsPerSecond: 100,
};

const log = logger('xds');

export class DiscoveryService {
  readonly #stores: ReadonlyMap<ResourceType, ResourceStore>;
  readonly #metrics: ControlMetrics;
  readonly #limits: DiscoveryLimits;
  readonly #streams = new Set<DiscoveryStream>();
  readonly #perCaller = new Map<string, number>();
  #closed = false;

  constructor(metrics: ControlMetrics, limits = DISCOVERY_LIMITS) {
    this.#stores = new Map(RESOURCE_TYPES.map((type) => [type, new ResourceStore(type)]));
    this.#metrics = metrics;
    this.#limits = limits;
  }

  /** Takes updates over and offers them to every stream at once. */
  publish(updates: readonly ResourceUpdate[]): void {
    let changed = false;
    for (const store of this.#stores.values()) changed = store.publish(updates) || changed;
    if (!changed) return;
    this.#metrics.pushes.inc();
    for (const stream of this.#streams) stream.flush();
    this.#trim();
  }

  store(type: ResourceType): ResourceStore {
    const store = this.#stores.get(type);
    if (store === undefined) throw new AmbitError('USAGE', `no store of ${type}`);
    return store;
  }

  clients(): ClientState[] {
    return [...this.#streams].map((stream) => stream.state());
  }

  /** Handler of `DeltaAggregatedResources`. `caller` has been authenticated. */
  serve(call: DiscoveryCall, caller: Caller): void {
    call.on('error', () => undefined);
    if (this.#closed) {
      refuse(call, status.UNAVAILABLE, 'the control plane is stopping');
      return;
    }
    if (this.#streams.size >= this.#limits.maxStreams) {
      refuse(call, status.RESOURCE_EXHAUSTED, 'too many streams');
      return;
    }
    this.#open(call, caller);
  }

  /** Ends every stream; clients reconnect elsewhere or later. */
  close(): void {
    this.#closed = true;
    for (const stream of [...this.#streams]) stream.end(status.UNAVAILABLE, 'the control plane is stopping');
  }

  #open(call: DiscoveryCall, caller: Caller): void {
    const key = caller.node ?? `${caller.namespace}/${caller.serviceAccount}`;
    const open = this.#perCaller.get(key) ?? 0;
    if (open >= this.#limits.maxStreamsPerCaller) {
      log.warn({ caller: key, streams: open }, 'stream refused: the caller has too many');
      refuse(call, status.RESOURCE_EXHAUSTED, 'too many streams of this caller');
      return;
    }
    this.#perCaller.set(key, open + 1);
    const stream = new DiscoveryStream(call, caller, this.#stores, this.#metrics, this.#limits, () => {
      this.#streams.delete(stream);
      const left = (this.#perCaller.get(key) ?? 1) - 1;
      if (left === 0) this.#perCaller.delete(key);
      else this.#perCaller.set(key, left);
      this.#metrics.connectedClients.set(this.#streams.size);
    });
    this.#streams.add(stream);
    this.#metrics.connectedClients.set(this.#streams.size);
    stream.start();
  }

  #trim(): void {
    for (const store of this.#stores.values()) {
      let oldest = store.sequence;
      for (const stream of this.#streams) oldest = Math.min(oldest, stream.synced(store.type));
      if (store.removals > TRIM_ABOVE) store.trim(oldest);
    }
  }
}

/** Removals a store may keep before they are looked through. */
const TRIM_ABOVE = 1000;

function refuse(call: DiscoveryCall, code: status, details: string): void {
  call.emit('error', { code, details });
}
