/**
 * One connection as one reporter sees it: who, whither, how, since when, how much. A record is opened once the ends are
 * known and ended exactly once; the end yields the access-log line and the closing metrics. While it is open it stands in
 * the registry of live connections, from before the policy check on.
 */
import type { AmbitError } from '../../core/errors.ts';
import type { SocketAddress } from '../../core/ip.ts';
import { formatSocketAddress } from '../../core/ip.ts';
import type { SpliceResult } from '../../hbone/splice.ts';
import type { ConnectionFacts } from '../route/authorize.ts';
import type { Service } from '../state/service.ts';
import type { AccessLogEnd, AccessLogEntry } from './access-log.ts';
import type { LocalPod } from './local-pod.ts';
import type { ConnectionPath, Direction, LiveConnectionView } from './messages.ts';
import type { TrafficEnd } from './traffic-labels.ts';
import type { TrafficSeries } from './traffic-metrics.ts';

/** Whoever moves the bytes; ends everything that belongs to the connection, its records included. */
export interface Cuttable {
  cut(error: AmbitError): void;
  /** Ends an open connection so that both sides see the end of the stream. False: it is not open, or bytes are on their way. */
  finish(reason: AmbitError): boolean;
}

/** Live (a splice) or final (its result). */
export type ByteCounters = Pick<SpliceResult, 'fromSocket' | 'toSocket'>;

export interface RecordFacts {
  readonly pod: LocalPod;
  readonly direction: Direction;
  readonly path: ConnectionPath;
  /** The application's end at the client. */
  readonly client: SocketAddress;
  /** Outbound: the next hop. Inbound: the address the connection arrived at. */
  readonly destination: SocketAddress;
  /** What the client dialled. */
  readonly originalDestination: SocketAddress;
  /** Authority of the CONNECT. */
  readonly hboneAddress: string | undefined;
  readonly source: TrafficEnd;
  readonly target: TrafficEnd;
  readonly service: Service | undefined;
}

export class ConnectionRecord {
  readonly id: number;
  readonly facts: RecordFacts;
  readonly owner: Cuttable;
  readonly series: TrafficSeries;
  readonly openedAtMs: number;
  /** What policy was asked; absent on records that no policy guards (the source's). */
  authorization: ConnectionFacts | undefined;
  /** ALLOW policy that let the connection in, or the one that denied it. */
  policy: string | undefined;
  ended = false;
  #splice: ByteCounters | undefined;
  #clientIsSocket = true;
  /** Bytes already added to the series. */
  #countedReceived = 0;
  #countedSent = 0;

  constructor(id: number, facts: RecordFacts, owner: Cuttable, series: TrafficSeries, nowMs: number) {
    this.id = id;
    this.facts = facts;
    this.owner = owner;
    this.series = series;
    this.openedAtMs = nowMs;
  }

  /** From now on bytes are read from `splice`; `clientIsSocket` says whether its (first) socket faces the client. */
  watch(splice: ByteCounters, clientIsSocket: boolean): void {
    this.#splice = splice;
    this.#clientIsSocket = clientIsSocket;
  }

  /** Bytes client to server so far. */
  get received(): number {
    if (this.#splice === undefined) return 0;
    return this.#clientIsSocket ? this.#splice.fromSocket : this.#splice.toSocket;
  }

  /** Bytes server to client so far. */
  get sent(): number {
    if (this.#splice === undefined) return 0;
    return this.#clientIsSocket ? this.#splice.toSocket : this.#splice.fromSocket;
  }

  /** Adds what moved since the last time to the counters. */
  countBytes(): void {
    const { received, sent } = this;
    this.series.received += received - this.#countedReceived;
    this.series.sent += sent - this.#countedSent;
    this.#countedReceived = received;
    this.#countedSent = sent;
  }

  logEntry(nowMs: number, error: AmbitError | undefined): AccessLogEntry {
    const { facts } = this;
    const outbound = facts.direction === 'outbound';
    return {
      source: logEnd(facts.client, facts.source),
      destination: logEnd(facts.destination, facts.target),
      hboneAddress: facts.hboneAddress,
      service: facts.service?.hostname,
      direction: facts.direction,
      path: facts.path,
      bytesSent: outbound ? this.received : this.sent,
      bytesReceived: outbound ? this.sent : this.received,
      durationMs: nowMs - this.openedAtMs,
      error,
      policy: this.policy,
    };
  }

  view(worker: number, nowMs: number): LiveConnectionView {
    const { facts } = this;
    const { source, target } = facts;
    return {
      id: this.id,
      worker,
      podUid: facts.pod.pod.uid,
      direction: facts.direction,
      path: facts.path,
      source: formatSocketAddress(facts.client),
      sourceIp: facts.client.ip,
      originalDestination: formatSocketAddress(facts.originalDestination),
      actualDestination: facts.hboneAddress ?? formatSocketAddress(facts.destination),
      ...present('sourceWorkload', source.workload?.name),
      ...present('sourceNamespace', source.workload?.namespace),
      ...present('sourceIdentity', source.identity),
      ...present('destinationWorkload', target.workload?.name),
      ...present('destinationNamespace', target.workload?.namespace),
      ...present('destinationIdentity', target.identity),
      ...present('destinationService', facts.service?.hostname),
      ...present('policy', this.policy),
      ageMs: Math.round(nowMs - this.openedAtMs),
      bytesReceived: this.received,
      bytesSent: this.sent,
    };
  }
}

function logEnd(address: SocketAddress, { workload, baggage, identity }: TrafficEnd): AccessLogEnd {
  return {
    address,
    workload: workload === undefined ? baggage?.service : workload.name || workload.canonicalName,
    namespace: workload?.namespace ?? baggage?.namespace,
    identity,
    cluster: workload?.clusterId ?? baggage?.cluster,
  };
}

function present<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined || value === '' ? {} : ({ [key]: value } as { [P in K]?: V });
}
