/** Every bound of discovery. What happens at each is in the table of limits. */
import type { RequestLimits } from './discovery-request.ts';
import { REQUEST_LIMITS } from './discovery-request.ts';
import type { ReaderLimits } from './reader.ts';
import { READER_LIMITS } from './reader.ts';
import type { SubscriptionLimits } from './subscription.ts';
import { SUBSCRIPTION_LIMITS } from './subscription.ts';

export interface DiscoveryLimits {
  readonly maxStreams: number;
  /** Streams of one caller: a node, else a pod, else a service account. */
  readonly maxStreamsPerCaller: number;
  /** Streams one caller may open at once, and per second in the long run. */
  readonly openBurst: number;
  readonly opensPerSecond: number;
  /** Streams whose first requests are read at the same time; the others wait unread. */
  readonly maxOpening: number;
  /** After this time a stream that has not subscribed to anything large gives its place to the next. */
  readonly openingMs: number;
  /** A client that leaves a response unanswered this long is disconnected. */
  readonly answerTimeoutMs: number;
  /** A stream whose proof is bound to a pod ends when the pod has been gone for this long. */
  readonly goneMs: number;
  /** Requests one stream may send at once, and per second in the long run. */
  readonly requestBurst: number;
  readonly requestsPerSecond: number;
  /** Bytes of requests of one stream that wait to be worked in. */
  readonly maxWaitingBytes: number;
  /** Bytes of responses, of all streams, that clients have not taken from us yet. */
  readonly maxUntakenBytes: number;
  /** At that limit, a client that has taken nothing for this long is disconnected. */
  readonly untakenMs: number;
  /** Removals that are remembered for clients that are behind. */
  readonly maxRemovals: number;
  /** How long removals of policies wait for the workloads that named them. */
  readonly holdRemovalsMs: number;
  /** How long one turn of sending may take. */
  readonly turnMs: number;
  readonly request: RequestLimits;
  readonly reader: ReaderLimits;
  readonly subscription: SubscriptionLimits;
}

export const DISCOVERY_LIMITS: DiscoveryLimits = {
  maxStreams: 10_000,
  maxStreamsPerCaller: 8,
  openBurst: 32,
  opensPerSecond: 1,
  maxOpening: 16,
  openingMs: 3000,
  answerTimeoutMs: 60_000,
  goneMs: 30_000,
  requestBurst: 1000,
  requestsPerSecond: 100,
  maxWaitingBytes: 20 * 1024 * 1024,
  maxUntakenBytes: 128 * 1024 * 1024,
  untakenMs: 5000,
  maxRemovals: 50_000,
  holdRemovalsMs: 10_000,
  turnMs: 5,
  request: REQUEST_LIMITS,
  reader: READER_LIMITS,
  subscription: SUBSCRIPTION_LIMITS,
};

/** Why a stream was refused or ended by us; values of a metric label. */
export type RefusalReason =
  | 'stopping'
  | 'too many streams'
  | 'too many streams of the caller'
  | 'streams opened too often'
  | 'too many requests'
  | 'request not understood'
  | 'asks for too much'
  | 'not answered'
  | 'not read'
  | 'too far behind'
  | 'proof expired';
