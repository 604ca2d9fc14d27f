/** Every bound of the control plane with what happens there: the source of its section in docs/LIMITS.md. */
import { MAX_CERTIFICATE_MESSAGE_BYTES, MAX_DISCOVERY_REQUEST_BYTES } from '../core/grpc.ts';
import { MAX_DER_BYTES } from './ca/der.ts';
import { MAX_FILE_BYTES } from './sources/folder-scan.ts';
import { STATUS_LIMITS } from './status-server.ts';
import { DISCOVERY_LIMITS } from './xds/discovery-service.ts';
import { SUBSCRIPTION_LIMITS } from './xds/subscription.ts';

export interface ControlLimitRow {
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
  readonly atTheLimit: string;
}

const bytes = (value: number): string => (value >= 1 << 20 ? `${value / (1 << 20)} MiB` : `${value / 1024} KiB`);

export const CONTROL_LIMITS_TABLE: readonly ControlLimitRow[] = [
  {
    name: 'maxConnections',
    value: `${STATUS_LIMITS.maxConnections} connections`,
    meaning: 'connections to the status port',
    atTheLimit: 'the one that has been idle longest is closed',
  },
  {
    name: 'headersTimeoutMs',
    value: `${STATUS_LIMITS.headersTimeoutMs / 1000}s`,
    meaning: 'time to send the headers of a request to the status port',
    atTheLimit: '408, closed',
  },
  {
    name: 'silenceTimeoutMs',
    value: `${STATUS_LIMITS.silenceTimeoutMs / 1000}s`,
    meaning: 'silence on the status port, between requests or while an answer is sent',
    atTheLimit: 'closed',
  },
  {
    name: 'maxStreams',
    value: `${DISCOVERY_LIMITS.maxStreams} streams`,
    meaning: 'discovery streams of all clients',
    atTheLimit: 'RESOURCE_EXHAUSTED',
  },
  {
    name: 'maxStreamsPerCaller',
    value: `${DISCOVERY_LIMITS.maxStreamsPerCaller} streams`,
    meaning: 'discovery streams of one node, or of one account without a node',
    atTheLimit: 'RESOURCE_EXHAUSTED',
  },
  {
    name: 'answerTimeoutMs',
    value: `${DISCOVERY_LIMITS.answerTimeoutMs / 1000}s`,
    meaning: 'time a client has to answer a response',
    atTheLimit: 'the stream ends; the client resumes with its versions',
  },
  {
    name: 'requests',
    value: `${DISCOVERY_LIMITS.requestBurst} requests, then ${DISCOVERY_LIMITS.requestsPerSecond}/s`,
    meaning: 'requests and answers on one discovery stream',
    atTheLimit: 'the stream ends with RESOURCE_EXHAUSTED',
  },
  {
    name: 'maxNames',
    value: `${SUBSCRIPTION_LIMITS.maxNames} names`,
    meaning: 'resources one client may ask for by name',
    atTheLimit: 'the stream ends with RESOURCE_EXHAUSTED',
  },
  {
    name: 'responseBytes',
    value: bytes(SUBSCRIPTION_LIMITS.responseBytes),
    meaning: 'resources in one discovery response; one response per type waits for its answer',
    atTheLimit: 'the rest follows in further responses',
  },
  {
    name: 'MAX_DISCOVERY_REQUEST_BYTES',
    value: bytes(MAX_DISCOVERY_REQUEST_BYTES),
    meaning: 'one request of an authenticated client; of strangers nothing is read',
    atTheLimit: 'RESOURCE_EXHAUSTED',
  },
  {
    name: 'MAX_CERTIFICATE_MESSAGE_BYTES',
    value: bytes(MAX_CERTIFICATE_MESSAGE_BYTES),
    meaning: 'one certificate request with its metadata',
    atTheLimit: 'INTERNAL',
  },
  {
    name: 'MAX_DER_BYTES',
    value: bytes(MAX_DER_BYTES),
    meaning: 'the CSR in a certificate request',
    atTheLimit: 'INVALID_ARGUMENT',
  },
  {
    name: 'MAX_FILE_BYTES',
    value: bytes(MAX_FILE_BYTES),
    meaning: 'one file of the configuration folder',
    atTheLimit: 'reported; what the file held before stays in use',
  },
];
