/**
 * The protocol between the main thread and a data plane worker, over a MessagePort. Everything here survives the
 * structured clone: plain objects, strings, numbers, byte arrays. File descriptors are numbers, valid in every thread.
 *
 * The main thread owns the truth and only tells; a worker never asks for a decision. Messages arrive in order. After
 * each `postMessage` the main thread rings the worker's wake-up, because its loop sleeps in epoll, not in libuv.
 */
import type { MessagePort } from 'node:worker_threads';
import type { IpAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import type { ResourceUpdate } from '../state/resource.ts';
import type { CutByPod, DrainResult } from './drain.ts';
import type { EnrolledPod } from './pod-capture.ts';
import type { WorkerSettings } from './worker-settings.ts';

/** Start parameters of a worker thread (`workerData`). */
export interface WorkerStart {
  /** The worker's end of the channel; also in the transfer list. */
  readonly port: MessagePort;
  /** 0-based; names the worker in metrics. */
  readonly index: number;
  readonly settings: WorkerSettings;
  /** File descriptors this worker may use. */
  readonly descriptors: number;
}

export type ToWorker =
  /** Listen in the pod. `netnsFd` stays open until every worker answered `podRemoved`. Answered by `podListening`. */
  | {
      readonly kind: 'pod';
      readonly pod: EnrolledPod;
      readonly netnsFd: number;
      /** Listening sockets of a predecessor to go on with; the worker's now. */
      readonly inherited?: readonly InheritedListener[];
    }
  /** Answered by `podGone` when listeners and connections are closed. */
  | { readonly kind: 'podRemoved'; readonly uid: string }
  /** The shortcut between pods of one node leads to the pod or no longer does. */
  | { readonly kind: 'podLeaving'; readonly uid: string; readonly leaving: boolean }
  /** In the form the wire brought them; every worker decodes its own copy. */
  | { readonly kind: 'resources'; readonly update: ResourceUpdate }
  | { readonly kind: 'identity'; readonly identity: SpiffeId; readonly material: TlsMaterial }
  /** No certificate can be had now (`detail` says why), or the identity has no pod left. */
  | { readonly kind: 'identityGone'; readonly identity: SpiffeId; readonly detail: string }
  /** Keys all workers share for TLS session tickets, 80 bytes. */
  | { readonly kind: 'ticketKeys'; readonly keys: Uint8Array }
  /** Keys of revoked certificates (hbone/revocation.ts); with a problem no peer is believed. */
  | { readonly kind: 'revocations'; readonly keys: readonly string[]; readonly problem: string | undefined }
  /** Answered by `pong`; a worker whose loop hangs does not. */
  | { readonly kind: 'ping'; readonly request: number }
  | { readonly kind: 'collect'; readonly request: number }
  | { readonly kind: 'connections'; readonly request: number }
  | { readonly kind: 'listening'; readonly request: number; readonly uid: string }
  /** Leave new connections in the queues of the kernel. Answered by `lentListeners`; ended by `keepListeners` or `retire`. */
  | { readonly kind: 'lendListeners'; readonly request: number }
  /** Nobody took the listeners over: accept again. */
  | { readonly kind: 'keepListeners' }
  /** A successor has the listeners: close ours, announce GOAWAY, and let connections end in their own time. */
  | { readonly kind: 'retire' }
  /** Stop accepting, announce GOAWAY, let connections end; after `graceMs` cut what is left (drain.ts). Answered by `drained`. */
  | { readonly kind: 'drain'; readonly graceMs: number }
  /** Cut everything and end the thread. */
  | { readonly kind: 'stop' };

export type FromWorker =
  /** The loop runs. `wakeUpFd` is the eventfd to ring after a message. */
  | { readonly kind: 'ready'; readonly wakeUpFd: number }
  | { readonly kind: 'podListening'; readonly uid: string; readonly problem?: MessageProblem }
  | { readonly kind: 'podGone'; readonly uid: string }
  /** A connection waits for this identity's certificate. Repeated at most once a second per identity. */
  | { readonly kind: 'needIdentity'; readonly identity: SpiffeId }
  | { readonly kind: 'pong'; readonly request: number }
  | { readonly kind: 'collected'; readonly request: number; readonly metrics: WorkerMetrics }
  | { readonly kind: 'connectionList'; readonly request: number; readonly connections: readonly LiveConnectionView[] }
  | { readonly kind: 'listeningAnswer'; readonly request: number; readonly listening: boolean }
  | { readonly kind: 'lentListeners'; readonly request: number; readonly listeners: readonly LentListener[] }
  | ({ readonly kind: 'drained'; readonly cutByPod: CutByPod } & DrainResult);

/** A listening socket on its way from one agent to the next. */
export interface InheritedListener {
  readonly port: number;
  readonly descriptor: number;
}

export interface LentListener extends InheritedListener {
  readonly uid: string;
}

/** An AmbitError on its way between threads. */
export interface MessageProblem {
  readonly code: string;
  readonly detail: string;
}

/** Counters of one label tuple; values are totals since the worker started. */
export interface TrafficSeriesView {
  /** Values in the order of `TRAFFIC_LABELS`. */
  readonly labels: readonly string[];
  readonly opened: number;
  readonly closed: number;
  readonly failed: number;
  /** Bytes client to server, for both reporters. */
  readonly received: number;
  /** Bytes server to client. */
  readonly sent: number;
}

export interface WorkerMetrics {
  readonly worker: number;
  readonly traffic: readonly TrafficSeriesView[];
  /** Connections refused, by error code and direction, before or after a record existed. */
  readonly refused: readonly { readonly reason: string; readonly direction: Direction; readonly count: number }[];
  /** Named numbers of this worker: `kind` says how they are added up over workers. */
  readonly gauges: readonly WorkerGauge[];
}

export interface WorkerGauge {
  readonly name: string;
  readonly kind: 'gauge' | 'counter';
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export type Direction = 'inbound' | 'outbound';

/** How the bytes travel. */
export type ConnectionPath = 'hbone' | 'same-node' | 'plaintext';

/** One live connection, for `ambit connections` and the config dump. */
export interface LiveConnectionView {
  readonly id: number;
  readonly worker: number;
  readonly podUid: string;
  readonly direction: Direction;
  readonly path: ConnectionPath;
  /** `ip:port` of the client. */
  readonly source: string;
  readonly sourceIp: IpAddress;
  readonly sourceWorkload?: string;
  readonly sourceNamespace?: string;
  readonly sourceIdentity?: SpiffeId;
  /** What the client dialled. */
  readonly originalDestination: string;
  /** What this agent dialled, or the CONNECT authority's address. */
  readonly actualDestination: string;
  readonly destinationWorkload?: string;
  readonly destinationNamespace?: string;
  readonly destinationIdentity?: SpiffeId;
  readonly destinationService?: string;
  /** `allow` policy that let it in, where one did. */
  readonly policy?: string;
  readonly ageMs: number;
  /** Client to server. */
  readonly bytesReceived: number;
  /** Server to client. */
  readonly bytesSent: number;
}
