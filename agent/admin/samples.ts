/**
 * Turns one snapshot of the agent into samples of the declared families: pure, apart from what `processSamples` reads
 * about this process.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { AGENT_VERSION } from '../../core/version.ts';
import type { TrafficSeriesView, WorkerMetrics } from '../dataplane/messages.ts';
import { TRAFFIC_LABELS } from '../dataplane/traffic-labels.ts';
import { FAMILIES, type Sample } from './metrics.ts';
import type { MetricsSnapshot } from './source.ts';

const PER_WORKER: ReadonlySet<string> = new Set(
  FAMILIES.filter(({ labels }) => labels.includes('worker')).map(({ name }) => name),
);

/** The agent fills the role that dashboards know by this name. */
const COMPONENT = 'ztunnel';

export function snapshotSamples(snapshot: MetricsSnapshot): Sample[] {
  const samples = [
    sample('istio_build', 1, { component: COMPONENT, tag: `ambit-${AGENT_VERSION}` }),
    sample('ambit_workers', snapshot.workers.length),
    sample('ambit_worker_restarts', snapshot.workersRestarted),
    sample('workload_manager_active_proxy_count', snapshot.podsUp),
    sample('workload_manager_pending_proxy_count', snapshot.podsPending),
    sample('workload_manager_proxies_started', snapshot.podsStarted),
    sample('workload_manager_proxies_stopped', snapshot.podsStopped),
  ];
  for (const worker of snapshot.workers) samples.push(...workerSamples(worker));
  const { xds } = snapshot;
  if (xds === undefined) return samples;
  samples.push(sample('ambit_xds_connected', xds.connected ? 1 : 0));
  for (const [reason, count] of Object.entries(xds.terminations))
    samples.push(sample('istio_xds_connection_terminations', count, { reason }));
  for (const [url, count] of Object.entries(xds.messages)) samples.push(sample('istio_xds_message', count, { url }));
  for (const [url, bytes] of Object.entries(xds.messageBytes))
    samples.push(sample('istio_xds_message_bytes', bytes, { url }));
  return samples;
}

function workerSamples(metrics: WorkerMetrics): Sample[] {
  const worker = String(metrics.worker);
  return [
    ...metrics.traffic.flatMap(trafficSamples),
    ...metrics.refused.map(({ reason, direction, count }) =>
      sample('ambit_connections_refused', count, { reason, direction }),
    ),
    ...metrics.gauges.map(({ name, labels, value }) =>
      sample(name, value, PER_WORKER.has(name) ? { ...labels, worker } : labels),
    ),
  ];
}

/** A counter that never moved is left out, so that an ended connection does not appear as an open one. */
function trafficSamples(series: TrafficSeriesView): Sample[] {
  const labels = Object.fromEntries(TRAFFIC_LABELS.map((name, index) => [name, series.labels[index] ?? '']));
  const values: readonly (readonly [string, number])[] = [
    ['istio_tcp_connections_opened', series.opened],
    ['istio_tcp_connections_closed', series.closed],
    ['istio_tcp_received_bytes', series.received],
    ['istio_tcp_sent_bytes', series.sent],
    ['istio_tcp_connections_failed', series.failed],
  ];
  return values.filter(([, value]) => value > 0).map(([name, value]) => sample(name, value, labels));
}

/** What the kernel says about this process; parts that cannot be read are left out. */
export function processSamples(): Sample[] {
  const usage = process.resourceUsage();
  const samples = [
    sample('process_resident_memory_bytes', process.memoryUsage.rss()),
    sample('process_cpu_seconds', (usage.userCPUTime + usage.systemCPUTime) / 1e6),
    sample('process_start_time_seconds', Math.round(performance.timeOrigin) / 1000),
  ];
  try {
    samples.push(sample('process_open_fds', readdirSync('/proc/self/fd').length));
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    if (limit?.[1] !== undefined) samples.push(sample('process_max_fds', Number(limit[1])));
  } catch {
    // No /proc here: the two families are absent.
  }
  return samples;
}

function sample(family: string, value: number, labels: Readonly<Record<string, string>> = {}): Sample {
  return { family, value, labels };
}
