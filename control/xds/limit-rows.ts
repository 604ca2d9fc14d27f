/** The rows of discovery in the table of limits. */
import type { ControlLimitRow } from '../limits.ts';
import { DISCOVERY_LIMITS } from './discovery-limits.ts';

const mebibytes = (value: number): string => `${value / (1 << 20)} MiB`;
const { request, reader, subscription, ...limits } = DISCOVERY_LIMITS;
const ENDED = 'the stream ends with RESOURCE_EXHAUSTED';

export const DISCOVERY_LIMIT_ROWS: readonly ControlLimitRow[] = [
  {
    name: 'maxStreams',
    value: `${limits.maxStreams} streams`,
    meaning: 'discovery streams of all clients',
    atTheLimit: 'RESOURCE_EXHAUSTED',
  },
  {
    name: 'maxStreamsPerCaller',
    value: `${limits.maxStreamsPerCaller} streams`,
    meaning: 'discovery streams of one caller: a node, else a pod, else an account',
    atTheLimit: 'RESOURCE_EXHAUSTED',
  },
  {
    name: 'opens',
    value: `${limits.openBurst} streams, then ${limits.opensPerSecond}/s`,
    meaning: 'streams one caller opens',
    atTheLimit: 'RESOURCE_EXHAUSTED',
  },
  {
    name: 'maxOpening',
    value: `${limits.maxOpening} streams, for ${limits.openingMs / 1000}s each`,
    meaning: 'streams whose first requests are read at the same time',
    atTheLimit: 'the others wait unread, in the order of their arrival',
  },
  {
    name: 'answerTimeoutMs',
    value: `${limits.answerTimeoutMs / 1000}s`,
    meaning: 'time a client has to answer a response',
    atTheLimit: 'the stream ends; the client resumes with its versions',
  },
  {
    name: 'goneMs',
    value: `${limits.goneMs / 1000}s`,
    meaning: 'how long the pod of a client may be gone before its discovery stream ends',
    atTheLimit: 'UNAUTHENTICATED; its token opens no other',
  },
  {
    name: 'requests',
    value: `${limits.requestBurst} requests, then ${limits.requestsPerSecond}/s`,
    meaning: 'requests and answers on one discovery stream',
    atTheLimit: ENDED,
  },
  {
    name: 'maxWaitingBytes',
    value: mebibytes(limits.maxWaitingBytes),
    meaning: 'requests of one stream that wait to be worked in',
    atTheLimit: ENDED,
  },
  {
    name: 'maxNames',
    value: `${subscription.maxNames} names, ${mebibytes(subscription.maxNameBytes)}`,
    meaning: 'resources one client may ask for by name',
    atTheLimit: ENDED,
  },
  {
    name: 'maxHeld',
    value: `${request.maxHeld} resources`,
    meaning: 'resources a client that comes back may say it holds',
    atTheLimit: ENDED,
  },
  {
    name: 'maxNameBytes',
    value: `${request.maxNameBytes} bytes`,
    meaning: 'one name in a request',
    atTheLimit: ENDED,
  },
  {
    name: 'responseBytes',
    value: mebibytes(reader.responseBytes),
    meaning: 'resources in one discovery response; one response per type waits for its answer',
    atTheLimit: 'the rest follows in further responses',
  },
  {
    name: 'maxUntakenBytes',
    value: mebibytes(limits.maxUntakenBytes),
    meaning: 'responses that clients have not read yet, of all clients together',
    atTheLimit: `large responses wait; who has read nothing for longest, at least ${limits.untakenMs / 1000}s, is disconnected`,
  },
  {
    name: 'maxRemovals',
    value: `${limits.maxRemovals} removals`,
    meaning: 'removals remembered for clients that have not read them',
    atTheLimit: 'the clients furthest behind are disconnected; they resume with their versions',
  },
  {
    name: 'holdRemovalsMs',
    value: `${limits.holdRemovalsMs / 1000}s`,
    meaning: 'how long the removal of a policy waits until the workloads that named it have been sent',
    atTheLimit: 'it is sent; a workload that still names it refuses until its own change arrives',
  },
  {
    name: 'turnMs',
    value: `${limits.turnMs} ms`,
    meaning: 'work on discovery streams in one turn of the event loop',
    atTheLimit: 'everything else in the process comes first, then the next stream',
  },
];
