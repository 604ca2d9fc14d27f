/**
 * Settings of the data plane as a worker sees them: the subset of the agent's configuration that a thread needs, fixed
 * for the life of the worker. Survives the structured clone.
 */
export interface WorkerSettings {
  readonly node: string;
  readonly network: string;
  readonly clusterId: string;
  readonly trustDomain: string;
  readonly outboundPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  /** True: pods of one node talk over a tunnel too. */
  readonly forceEncryption: boolean;
  readonly logFormat: 'json' | 'plain';
  /** Open descriptor the access log goes to; absent: no access log. */
  readonly accessLogFd: number | undefined;
  /** How long a connection waits for its pod's announcement or certificate before it is refused. */
  readonly readinessWaitMs: number;
  readonly poolMaxStreamsPerConnection: number;
  readonly poolIdleReleaseMs: number;
  readonly keepaliveEnabled: boolean;
}
