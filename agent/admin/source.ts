/**
 * What the admin pages and the metrics need from the running agent. The app implements it; the pages never reach into
 * the data plane. Everything here is read-only except `setLogLevel`.
 *
 * Numbers of the workers arrive as plain arrays (`WorkerMetrics`); their meaning is given by the families that
 * `metrics.ts` declares, and nowhere else.
 */
import type { LiveConnectionView, WorkerMetrics } from '../dataplane/messages.ts';
import type { EnrolledPod } from '../dataplane/pod-capture.ts';
import type { RouteSettings } from '../route/outbound.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { NodeStatus } from './node-report.ts';

/** One identity the agent holds or wants to hold a certificate for. */
export interface CertificateView {
  readonly identity: string;
  readonly state:
    | { readonly kind: 'available' }
    | { readonly kind: 'initializing' }
    | { readonly kind: 'unavailable'; readonly reason: string };
  /** Leaf first, PEM; empty unless available. */
  readonly chainPem: string;
  /** PEM; empty unless available. */
  readonly rootsPem: string;
}

/** A pod of this node. `pending`: known, and not (or no longer) listening in every worker. */
export interface PodView {
  readonly pod: EnrolledPod;
  readonly state: 'up' | 'pending';
}

/** Counters of the xDS client; totals since the agent started. */
export interface XdsStats {
  readonly connected: boolean;
  /** Ends of the stream by reason: ConnectionError, Error, Reconnect, Complete. */
  readonly terminations: Readonly<Record<string, number>>;
  /** By type URL. */
  readonly messages: Readonly<Record<string, number>>;
  /** Payload bytes of resources, by type URL. */
  readonly messageBytes: Readonly<Record<string, number>>;
}

/** Everything one scrape shows. */
export interface MetricsSnapshot {
  readonly workers: readonly WorkerMetrics[];
  readonly podsUp: number;
  readonly podsPending: number;
  /** Since the agent started. */
  readonly podsStarted: number;
  readonly podsStopped: number;
  readonly workersRestarted: number;
  readonly xds?: XdsStats;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface AdminSource {
  readonly state: MeshState;
  /** The settings routing decisions are made with on this node. */
  readonly routeSettings: RouteSettings;
  /** Start-up dump of the configuration, secrets already replaced. */
  readonly configuration: Readonly<Record<string, unknown>>;
  certificates(): readonly CertificateView[];
  pods(): readonly PodView[];
  /** One answer of every worker; workers that do not answer within a second are left out. */
  collectMetrics(): Promise<MetricsSnapshot>;
  connections(): Promise<readonly LiveConnectionView[]>;
  /** `probe`: also try from inside every enrolled pod whether it is redirected, within three seconds. */
  nodeStatus(probe: boolean): Promise<NodeStatus>;
  /** Names of the start-up tasks that are not finished (`state manager`, `workload proxy manager`, `proxy`); empty = ready. */
  readiness(): readonly string[];
  logLevel(): LogLevel;
  setLogLevel(level: LogLevel): void;
}

/** Ports of the three servers; 0 asks for a free one. */
export interface AdminPorts {
  /** Loopback only. */
  readonly admin: number;
  readonly metrics: number;
  readonly readiness: number;
}

/** The running servers and the ports they got. */
export interface AdminServers {
  readonly ports: AdminPorts;
  /** Stops listening and cuts idle connections; resolves when the sockets are closed. */
  close(): Promise<void>;
}
