/** The numbers of one worker besides traffic: its loop, its tunnels, its queues. Declared for exposition in agent/admin. */
import type { DrainResult } from './drain.ts';
import type { WorkerGauge } from './messages.ts';
import type { WorkerContext } from './worker-context.ts';

export interface WorkerCounts {
  readonly droppedLogLines: number;
  readonly policyCuts: number;
  /** Peers refused or cut because of the revocation lists, by the side that said so. */
  readonly unbelieved: Readonly<Record<'source' | 'destination', number>>;
  readonly drained: DrainResult;
  readonly defects: number;
}

/** Reads and, for the maxima since the last reading, resets. */
export function workerGauges(worker: WorkerContext, counts: WorkerCounts): WorkerGauge[] {
  const { stats } = worker.loop;
  const open = worker.recorder.openByDirection();
  const pool = worker.pool.stats;
  const server = worker.server.stats;
  const gauges: WorkerGauge[] = [
    gauge('istio_tcp_sockets_open', open.outbound, { reporter: 'source' }),
    gauge('istio_tcp_sockets_open', open.inbound, { reporter: 'destination' }),
    counter('ambit_worker_loop_turns', stats.turns),
    counter('ambit_worker_loop_events', stats.events),
    counter('ambit_worker_loop_busy_seconds', stats.busyMs / 1000),
    gauge('ambit_worker_loop_turn_max_seconds', stats.maxTurnMs / 1000),
    gauge('ambit_worker_loop_lag_max_seconds', stats.maxTimerLagMs / 1000),
    gauge('ambit_worker_pods', worker.pods.size),
    gauge('ambit_worker_waiting_connections', worker.waits.size),
    gauge('ambit_worker_seats', worker.seats.taken),
    gauge('ambit_tunnel_sessions', pool.sessions, { role: 'client' }),
    gauge('ambit_tunnel_sessions', server.sessions, { role: 'server' }),
    gauge('ambit_tunnel_streams', pool.streams, { role: 'client' }),
    gauge('ambit_tunnel_streams', server.streams, { role: 'server' }),
    gauge('ambit_tunnel_handshakes', server.handshaking),
    counter('ambit_tunnel_accept_pauses', server.crowdedTimes),
    counter('ambit_tunnel_dials', pool.dials),
    counter('ambit_tunnel_dial_failures', pool.dialFailures),
    counter('ambit_tunnel_resumptions', pool.resumptions),
    counter('ambit_tunnel_retries', pool.retries),
    counter('ambit_policy_cut_connections', counts.policyCuts),
    counter('ambit_endpoint_retries', worker.recorder.retries),
    counter('ambit_drained_connections', counts.drained.ended, { end: 'in-order' }),
    counter('ambit_drained_connections', counts.drained.cut, { end: 'cut' }),
    counter('istio_crl_policy_rejections', counts.unbelieved.source, { reporter: 'source' }),
    counter('istio_crl_policy_rejections', counts.unbelieved.destination, { reporter: 'destination' }),
    ...worker.dryRuns
      .counts()
      .map(({ value, labels }) => counter('ambit_dry_run_policy_matches', value, { ...labels })),
    counter('ambit_access_log_dropped_lines', counts.droppedLogLines),
    counter('ambit_worker_defects', counts.defects),
  ];
  stats.maxTurnMs = 0;
  stats.maxTimerLagMs = 0;
  return gauges;
}

function gauge(name: string, value: number, labels: Record<string, string> = {}): WorkerGauge {
  return { name, kind: 'gauge', labels, value };
}

function counter(name: string, value: number, labels: Record<string, string> = {}): WorkerGauge {
  return { name, kind: 'counter', labels, value };
}
