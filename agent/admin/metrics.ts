/**
 * Every metric family of the agent, declared here and nowhere else, and their exposition as OpenMetrics text.
 *
 * Names, labels and their order are Istio's where Istio has the family; `docs/METRICS.md` is generated from the table.
 * The help text of a family that is not part of Istio's stable set carries `(unstable)`. The counters live as plain
 * numbers in the workers; a scrape builds the text from one snapshot and keeps nothing. Families without a value are
 * left out.
 */
import { Counter, Gauge, type OpenMetricsContentType, Registry } from 'prom-client';
import { TRAFFIC_LABELS } from '../dataplane/traffic-labels.ts';

export interface MetricFamily {
  /** Without the `_total` that counters get in the exposition. */
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly labels: readonly string[];
}

function family(type: MetricFamily['type'], name: string, help: string, labels: readonly string[] = []): MetricFamily {
  return { name, type, help, labels };
}

const PER_WORKER = ['worker'];

/** In the order of the exposition. */
export const FAMILIES = [
  family('counter', 'istio_tcp_connections_opened', 'TCP connections opened', TRAFFIC_LABELS),
  family('counter', 'istio_tcp_connections_closed', 'TCP connections closed', TRAFFIC_LABELS),
  family('counter', 'istio_tcp_received_bytes', 'Bytes from clients to servers, for both reporters', TRAFFIC_LABELS),
  family('counter', 'istio_tcp_sent_bytes', 'Bytes from servers to clients, for both reporters', TRAFFIC_LABELS),
  family(
    'counter',
    'istio_tcp_connections_failed',
    'TCP connections that failed or were denied (unstable)',
    TRAFFIC_LABELS,
  ),
  family('gauge', 'istio_tcp_sockets_open', 'Connections of applications open now (unstable)', ['reporter']),
  family('gauge', 'istio_build', 'Always 1; the labels say what runs', ['component', 'tag']),
  family('counter', 'istio_xds_connection_terminations', 'Ended streams to the control plane (unstable)', ['reason']),
  family('counter', 'istio_xds_message', 'Messages from the control plane (unstable)', ['url']),
  family('counter', 'istio_xds_message_bytes', 'Payload bytes of resources from the control plane (unstable)', ['url']),
  family('gauge', 'ambit_xds_connected', '1 while the stream to the control plane is up (unstable)'),
  family('gauge', 'workload_manager_active_proxy_count', 'Pods whose traffic is captured (unstable)'),
  family('gauge', 'workload_manager_pending_proxy_count', 'Pods that wait for their listeners (unstable)'),
  family('counter', 'workload_manager_proxies_started', 'Pods that were captured since the start (unstable)'),
  family('counter', 'workload_manager_proxies_stopped', 'Pods that were released since the start (unstable)'),
  family(
    'counter',
    'ambit_connections_refused',
    'Refused or failed connections by error code, see ERRORS.md (unstable)',
    ['reason', 'direction'],
  ),
  family(
    'counter',
    'istio_crl_policy_rejections',
    'Tunnels refused or cut because of the revocation lists (unstable)',
    ['reporter'],
  ),
  family(
    'counter',
    'ambit_endpoint_retries',
    'Connections tried at another endpoint of the service, the first could not be reached (unstable)',
  ),
  family(
    'counter',
    'ambit_drained_connections',
    'Connections an agent that stops ended when they were idle (in-order) or cut at the deadline (unstable)',
    ['end'],
  ),
  family('counter', 'ambit_policy_cut_connections', 'Live connections ended by a change of policy (unstable)'),
  family(
    'counter',
    'ambit_dry_run_policy_matches',
    'Dry-run policies that match a new connection; allow/no_match: there are such ALLOW policies, none matches (unstable)',
    ['action', 'outcome'],
  ),
  family('gauge', 'ambit_worker_seats', 'Connections that count towards the fair share of their pod (unstable)'),
  family('gauge', 'ambit_tunnel_sessions', 'HBONE sessions open now (unstable)', ['role']),
  family('gauge', 'ambit_tunnel_streams', 'Tunnels open now (unstable)', ['role']),
  family('gauge', 'ambit_tunnel_handshakes', 'TLS handshakes of arriving tunnels under way (unstable)'),
  family('counter', 'ambit_tunnel_accept_pauses', 'Times the bound on handshakes was reached (unstable)'),
  family('counter', 'ambit_tunnel_dials', 'HBONE sessions dialled (unstable)'),
  family('counter', 'ambit_tunnel_dial_failures', 'HBONE sessions that could not be opened (unstable)'),
  family('counter', 'ambit_tunnel_resumptions', 'HBONE sessions that resumed an earlier TLS session (unstable)'),
  family('counter', 'ambit_tunnel_retries', 'Tunnels asked for again after the peer had not processed them (unstable)'),
  family('counter', 'ambit_access_log_dropped_lines', 'Access log lines lost because nobody read them (unstable)'),
  family('gauge', 'ambit_workers', 'Data plane threads that answered this scrape (unstable)'),
  family('counter', 'ambit_worker_restarts', 'Data plane threads that died and were replaced (unstable)'),
  family(
    'counter',
    'ambit_worker_defects',
    'Exceptions caught at the edge of the loop; report them (unstable)',
    PER_WORKER,
  ),
  family('gauge', 'ambit_worker_pods', 'Pods this thread listens for (unstable)', PER_WORKER),
  family(
    'gauge',
    'ambit_worker_waiting_connections',
    'Connections that wait for a workload or certificate (unstable)',
    PER_WORKER,
  ),
  family('counter', 'ambit_worker_loop_turns', 'Turns of the event loop (unstable)', PER_WORKER),
  family('counter', 'ambit_worker_loop_events', 'Events of the event loop (unstable)', PER_WORKER),
  family('counter', 'ambit_worker_loop_busy_seconds', 'Time the event loop did not wait (unstable)', PER_WORKER),
  family('gauge', 'ambit_worker_loop_turn_max_seconds', 'Longest turn since the last scrape (unstable)', PER_WORKER),
  family('gauge', 'ambit_worker_loop_lag_max_seconds', 'Latest timer since the last scrape (unstable)', PER_WORKER),
  family('gauge', 'process_open_fds', 'Open file descriptors'),
  family('gauge', 'process_max_fds', 'Limit of open file descriptors'),
  family('gauge', 'process_resident_memory_bytes', 'Resident memory'),
  family('counter', 'process_cpu_seconds', 'User and system CPU time'),
  family('gauge', 'process_start_time_seconds', 'Start of the process since the epoch'),
] as const satisfies readonly MetricFamily[];

/** One number under a label tuple. Labels with empty values are left out of the series. */
export interface Sample {
  readonly family: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/**
 * The exposition of the samples, ending in `# EOF`. Samples of the same series are added up. A sample of a family that
 * is not declared is a defect: it throws.
 */
export async function expose(samples: Iterable<Sample>): Promise<string> {
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  const byFamily = Map.groupBy(samples, (sample) => sample.family);
  for (const declared of FAMILIES) {
    const values = byFamily.get(declared.name);
    byFamily.delete(declared.name);
    if (values === undefined) continue;
    const { name, help, type, labels } = declared;
    const configuration = { name, help, labelNames: [...labels], registers: [registry] };
    const metric = type === 'counter' ? new Counter(configuration) : new Gauge(configuration);
    for (const sample of values) metric.inc(presentLabels(sample.labels), sample.value);
  }
  const [undeclared] = byFamily.keys();
  if (undeclared !== undefined) throw new TypeError(`metric family ${undeclared} is not declared`);
  return registry.metrics();
}

function presentLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ''));
}
