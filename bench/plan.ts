/** What a run measures: the list of measurements, the rows of the report and the goals. */
import { fixedRate } from './measure/latency.ts';
import type { Measurement, Metric } from './measure/measurement.ts';
import { newConnections, requests } from './measure/requests.ts';
import { throughput } from './measure/throughput.ts';

export interface Plan {
  readonly rounds: number;
  /** Length of one measurement. */
  readonly seconds: number;
  /** Counts of idle connections memory is read at; the last is the one reported. */
  readonly idleConnections: readonly number[];
}

export const FULL_PLAN: Plan = { rounds: 5, seconds: 4, idleConnections: [100, 2000, 10_000] };
export const QUICK_PLAN: Plan = { rounds: 1, seconds: 1, idleConnections: [100, 1000] };

const STREAMS = [1, 4, 16];
const CONNECTIONS = [1, 16, 64];
const RATES = [1000, 4000];
const PARALLEL_NEW = 32;

export const MEASUREMENTS: readonly Measurement[] = [
  ...STREAMS.map((streams) => throughput(streams, 'up')),
  ...STREAMS.map((streams) => throughput(streams, 'down')),
  ...CONNECTIONS.map(requests),
  newConnections(PARALLEL_NEW),
  ...RATES.map(fixedRate),
];

const number = (
  measurement: string,
  metric: string,
  label: string,
  unit: string,
  better: Metric['better'],
  digits = 2,
): Metric => ({ measurement, metric, label, unit, better, digits });

export const METRICS: readonly Metric[] = [
  ...STREAMS.map((n) =>
    number(`throughput/up/${n}`, 'gbps', `throughput to the server, ${n} stream(s)`, 'Gb/s', 'higher'),
  ),
  ...STREAMS.map((n) =>
    number(`throughput/down/${n}`, 'gbps', `throughput to the client, ${n} stream(s)`, 'Gb/s', 'higher'),
  ),
  number('throughput/up/1', 'cpuPerUnit', 'CPU of the proxies per Gbit', 'ms', 'lower', 1),
  ...CONNECTIONS.flatMap((n) => [
    number(`requests/${n}`, 'rps', `requests/s, ${n} connection(s)`, '/s', 'higher', 0),
    number(`requests/${n}`, 'p50Ms', `latency p50, ${n} connection(s)`, 'ms', 'lower', 3),
  ]),
  number('requests/64', 'p99Ms', 'latency p99, 64 connections', 'ms', 'lower', 3),
  number('requests/64', 'cpuPerUnit', 'CPU of the proxies per 1000 requests, 64 connections', 'ms', 'lower', 1),
  number(`connections/${PARALLEL_NEW}`, 'cps', 'new connections/s', '/s', 'higher', 0),
  number(`connections/${PARALLEL_NEW}`, 'cpuPerUnit', 'CPU of the proxies per 1000 connections', 'ms', 'lower', 1),
  ...RATES.flatMap((rate) => [
    number(`fixed-rate/${rate}`, 'p50Ms', `latency p50 at ${rate} requests/s`, 'ms', 'lower', 3),
    number(`fixed-rate/${rate}`, 'p99Ms', `latency p99 at ${rate} requests/s`, 'ms', 'lower', 3),
    number(`fixed-rate/${rate}`, 'cores', `cores used by the proxies at ${rate} requests/s`, '', 'lower', 3),
  ]),
];

/** Work done per second, for CPU per unit of work: thousands of requests or connections, or Gbit. */
export function unitsPerSecond(result: Readonly<Record<string, number>>): number | undefined {
  if (result.gbps !== undefined) return result.gbps;
  const rate = result.rps ?? result.cps;
  return rate === undefined ? undefined : rate / 1000;
}

/** A goal: the ratio of HBONE to the HAProxy pair of the same run. */
export interface Goal {
  readonly measurement: string;
  readonly metric: string;
  readonly label: string;
  readonly ratio: number;
  readonly sense: 'at least' | 'at most';
}

export const GOALS: readonly Goal[] = [
  { measurement: 'throughput/up/1', metric: 'gbps', label: 'throughput of one stream', ratio: 0.75, sense: 'at least' },
  { measurement: 'requests/64', metric: 'rps', label: 'requests/s at 64 connections', ratio: 1.25, sense: 'at least' },
  { measurement: 'connections/32', metric: 'cps', label: 'new connections/s', ratio: 8, sense: 'at least' },
  { measurement: 'requests/1', metric: 'p50Ms', label: 'latency at 1 connection', ratio: 1.1, sense: 'at most' },
  { measurement: 'fixed-rate/1000', metric: 'p99Ms', label: 'p99 at 1000 requests/s', ratio: 1.5, sense: 'at most' },
];

export const IDLE_AGENT_BYTES = 90e6;
export const IDLE_CONNECTION_BYTES = 3 * 1024;
