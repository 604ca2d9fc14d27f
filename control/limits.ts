/** Every bound of the control plane with what happens there: the source of its section in docs/LIMITS.md. */
import { MAX_CERTIFICATE_MESSAGE_BYTES, MAX_DISCOVERY_REQUEST_BYTES } from '../core/grpc.ts';
import { MAX_DER_BYTES } from './ca/der.ts';
import { CA_LIMIT_ROWS } from './ca/limit-rows.ts';
import { LISTENER_LIMITS } from './listener.ts';
import { MAX_FILE_BYTES } from './sources/folder-scan.ts';
import { SOURCE_LIMIT_ROWS } from './sources/limit-rows.ts';
import { STATUS_LIMITS } from './status-server.ts';
import { MAX_JUDGED_WORKLOADS } from './webhook/judge.ts';
import { WEBHOOK_LIMITS } from './webhook/server.ts';
import { DISCOVERY_LIMIT_ROWS } from './xds/limit-rows.ts';

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
    name: 'maxUnproven',
    value: `${LISTENER_LIMITS.maxUnproven} connections, ${LISTENER_LIMITS.maxUnprovenPerAddress} of one address`,
    meaning: 'connections to the gRPC port on which no call was authenticated yet',
    atTheLimit: 'of one address: reset; of all: the oldest of the address that holds most of them is closed',
  },
  {
    name: 'proveWithinMs',
    value: `${LISTENER_LIMITS.proveWithinMs / 1000}s`,
    meaning: 'time for the TLS handshake and the first authenticated call',
    atTheLimit: 'closed',
  },
  {
    name: 'maxConnections (gRPC)',
    value: `${LISTENER_LIMITS.maxConnections} connections, ${LISTENER_LIMITS.maxPerAddress} of one address`,
    meaning: 'connections to the gRPC port',
    atTheLimit: 'reset',
  },
  {
    name: 'accepts',
    value: `${LISTENER_LIMITS.acceptBurst} connections, then ${LISTENER_LIMITS.acceptsPerSecond}/s`,
    meaning: 'connections that one address opens to the gRPC port',
    atTheLimit: 'reset',
  },
  {
    name: 'maxRefusedCalls',
    value: `${LISTENER_LIMITS.maxRefusedCalls} calls`,
    meaning: 'calls without a valid proof of identity on one connection',
    atTheLimit: 'the connection is closed',
  },
  {
    name: 'maxUnjudgedCalls',
    value: `${LISTENER_LIMITS.maxUnjudgedCalls} calls`,
    meaning: 'calls on one connection that were refused, taken back by their caller, or not judged yet',
    atTheLimit: 'the connection is closed',
  },
  ...DISCOVERY_LIMIT_ROWS,
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
  {
    name: 'WEBHOOK_LIMITS.maxConnections',
    value: `${WEBHOOK_LIMITS.maxConnections} connections, ${WEBHOOK_LIMITS.maxConnectionsPerAddress} of one address`,
    meaning: 'connections to the webhook',
    atTheLimit: 'of one address: the new one is closed; in all: the one that has been idle longest',
  },
  {
    name: 'WEBHOOK_LIMITS.maxBodyBytes',
    value: bytes(WEBHOOK_LIMITS.maxBodyBytes),
    meaning: 'one question of the API server: object and old object',
    atTheLimit: '413, closed',
  },
  {
    name: 'WEBHOOK_LIMITS.maxHeldBytes',
    value: `${bytes(WEBHOOK_LIMITS.maxHeldBytes)}, ${bytes(WEBHOOK_LIMITS.maxHeldBytesPerAddress)} of one address`,
    meaning: 'questions to the webhook that arrive or wait',
    atTheLimit: '413, closed; the API server does what failurePolicy says',
  },
  {
    name: 'WEBHOOK_LIMITS.requestTimeoutMs',
    value: `${WEBHOOK_LIMITS.requestTimeoutMs / 1000}s`,
    meaning: 'time to send a question to the webhook',
    atTheLimit: '408, closed',
  },
  {
    name: 'WEBHOOK_LIMITS.rate',
    value: `${WEBHOOK_LIMITS.rate.burst} requests, then ${WEBHOOK_LIMITS.rate.perSecond}/s`,
    meaning: 'questions of one address to the webhook',
    atTheLimit: '429, closed; the API server does what failurePolicy says',
  },
  {
    name: 'WEBHOOK_LIMITS.addressShare',
    value: `${WEBHOOK_LIMITS.addressShare * 100} % of the thread`,
    meaning: 'work for the questions of one address, over a second',
    atTheLimit: `they wait up to ${WEBHOOK_LIMITS.maxWaitMs / 1000}s, then 429; the API server does what failurePolicy says`,
  },
  {
    name: 'WEBHOOK_LIMITS.analysisShare',
    value: `${WEBHOOK_LIMITS.analysisShare * 100} % of the thread`,
    meaning: 'looking at the surroundings of objects at admission, over a second',
    atTheLimit: 'objects are judged by themselves: what is wrong in itself is still refused',
  },
  {
    name: 'MAX_JUDGED_WORKLOADS',
    value: `${MAX_JUDGED_WORKLOADS} workloads`,
    meaning: 'workloads that are looked at for one object at admission',
    atTheLimit: 'nothing is concluded from what was not found; ambit analyze looks at all',
  },
  ...CA_LIMIT_ROWS,
  ...SOURCE_LIMIT_ROWS,
];
