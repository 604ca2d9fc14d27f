/** Every bound of the client of the API server with what happens there: the source of its section in docs/LIMITS.md. */
import { PAGE_SIZE } from './client.ts';
import { EVENT_LIMITS } from './events.ts';
import { LEASE_TIMES } from './lease.ts';
import { REFLECTOR_TIMES } from './reflector.ts';
import { TRANSPORT_LIMITS } from './transport.ts';
import { MAX_EVENT_BYTES } from './watch.ts';
import { WORK_QUEUE_TIMES } from './work-queue.ts';

interface LimitRow {
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
  readonly atTheLimit: string;
}

const mebibytes = (value: number): string => `${value / (1 << 20)} MiB`;
const seconds = (ms: number): string => `${ms / 1000}s`;

export const KUBE_LIMITS_TABLE: readonly LimitRow[] = [
  {
    name: 'callConnections',
    value: `${TRANSPORT_LIMITS.callConnections} connections`,
    meaning: 'connections for calls to the API server; watches have their own, one each',
    atTheLimit: 'further calls wait within their time limit',
  },
  {
    name: 'callTimeoutMs',
    value: seconds(TRANSPORT_LIMITS.callTimeoutMs),
    meaning: 'a call, from its beginning to the end of its answer, and the beginning of a watch',
    atTheLimit: 'the call fails; reflectors and queues try again',
  },
  {
    name: 'maxAnswerBytes',
    value: mebibytes(TRANSPORT_LIMITS.maxAnswerBytes),
    meaning: 'an answer of the API server, a page of a list included',
    atTheLimit: 'the connection is closed; lists ask for smaller pages',
  },
  {
    name: 'pageSize',
    value: `${PAGE_SIZE} objects`,
    meaning: 'a page of a list',
    atTheLimit: 'the next page is asked for',
  },
  {
    name: 'maxEventBytes',
    value: mebibytes(MAX_EVENT_BYTES),
    meaning: 'one event of a watch',
    atTheLimit: 'the watch ends and the objects are listed again',
  },
  {
    name: 'silenceMs',
    value: seconds(REFLECTOR_TIMES.silenceMs),
    meaning: 'silence of a watch',
    atTheLimit: 'the connection is closed, the watch resumed',
  },
  {
    name: 'watchSeconds',
    value: `${REFLECTOR_TIMES.watchSeconds}s to ${2 * REFLECTOR_TIMES.watchSeconds}s`,
    meaning: 'length of a watch, by chance',
    atTheLimit: 'the server ends it and it is resumed',
  },
  {
    name: 'reflectorBackoff',
    value: `${seconds(REFLECTOR_TIMES.firstBackoffMs)} to ${seconds(REFLECTOR_TIMES.maxBackoffMs)}`,
    meaning: 'pause before a list or watch is tried again, doubling, with jitter',
    atTheLimit: 'it goes on for ever; the reason is told until it succeeds',
  },
  {
    name: 'workQueueBackoff',
    value: `${WORK_QUEUE_TIMES.firstBackoffMs}ms to ${seconds(WORK_QUEUE_TIMES.maxBackoffMs)}`,
    meaning: 'pause before failed work on a key is tried again, doubling, with jitter',
    atTheLimit: 'it goes on for ever; keys that keep failing are told',
  },
  {
    name: 'maxPendingEvents',
    value: `${EVENT_LIMITS.maxPending} events`,
    meaning: 'Kubernetes events that wait to be written',
    atTheLimit: 'further ones are dropped and counted',
  },
  {
    name: 'maxEventSeries',
    value: `${EVENT_LIMITS.maxSeries} series`,
    meaning: `equal events that are counted instead of written, at most once in ${seconds(EVENT_LIMITS.quietMs)}`,
    atTheLimit: 'the series used longest ago begins anew',
  },
  {
    name: 'leaseDurationMs',
    value: seconds(LEASE_TIMES.durationMs),
    meaning: 'how long the lease of a leader counts after its last renewal',
    atTheLimit: `another replica leads; the leader stops ${seconds(LEASE_TIMES.deadlineMs)} after its last renewal`,
  },
];
