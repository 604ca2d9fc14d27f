/** The load generators inside a client pod, fortio and iperf3, and what they report. */
import type { Cluster } from '../../test/support/cluster.ts';
import { valueAt } from '../../test/support/kube-api-call.ts';
import { HTTP_PORT, type LoadNamespace, STREAM_PORT } from './world.ts';

/** Beyond the length of the run itself. */
const MARGIN_MS = 30_000;
const IPERF = ['iperf3', '-p', String(STREAM_PORT)];

export interface HttpLoad {
  readonly within: LoadNamespace;
  readonly server: string;
  readonly seconds: number;
  /** Connections used at the same time. */
  readonly connections: number;
  /** Requests per second of all connections together; undefined: as many as possible. */
  readonly rate?: number;
  /** False: a connection of its own for every request. */
  readonly keepAlive: boolean;
}

export interface HttpResult {
  readonly requests: number;
  readonly perSecond: number;
  /** Requests without a good answer. */
  readonly failed: number;
  /** Connections opened beyond those the run began with; keep-alive only. */
  readonly reconnects: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Requests from the client on the first node; fortio repeats a request once when a kept connection has ended. */
export async function httpLoad(cluster: Cluster, load: HttpLoad): Promise<HttpResult> {
  const { within, server, seconds, connections, rate, keepAlive } = load;
  const output = await cluster.podExec(
    within,
    'cl1',
    [
      'fortio',
      'load',
      ...['-quiet', '-json', '-', '-p', '50,90,99', '-timeout', '3s', '-allow-initial-errors'],
      ...['-c', String(connections), '-qps', String(rate ?? 0), '-t', `${seconds}s`, `-keepalive=${keepAlive}`],
      `http://${server}:${HTTP_PORT}/`,
    ],
    { timeoutMs: seconds * 1000 + MARGIN_MS },
  );
  const report: unknown = JSON.parse(output);
  const histogram = valueAt(report, 'DurationHistogram');
  const requests = numberAt(histogram, 'Count');
  const good = Number(valueAt(report, 'RetCodes', '200') ?? 0);
  return {
    requests,
    perSecond: round(numberAt(report, 'ActualQPS')),
    failed: requests - good,
    reconnects: keepAlive ? numberAt(report, 'SocketCount') - connections : 0,
    p50Ms: percentile(histogram, 50),
    p90Ms: percentile(histogram, 90),
    p99Ms: percentile(histogram, 99),
    maxMs: milliseconds(numberAt(histogram, 'Max')),
  };
}

/** One stream at full speed, to the server; Gbit/s as the receiver counts. */
export async function streamLoad(
  cluster: Cluster,
  load: Pick<HttpLoad, 'within' | 'server' | 'seconds'>,
): Promise<number> {
  const report = await iperf(cluster, load);
  return round(numberAt(report, 'end', 'sum_received', 'bits_per_second') / 1e9);
}

/** A slow stream; how long it lived, seconds. */
export async function longStream(
  cluster: Cluster,
  { within, server, seconds }: Pick<HttpLoad, 'within' | 'server' | 'seconds'>,
): Promise<number> {
  // Every second at once, so that a stream that is cut has told how far it came.
  const command = [...IPERF, '-b', '2M', '-i', '1', '--forceflush', '-c', server, '-t', String(seconds)];
  const run = cluster.podExec(within, 'cl1', command, { timeoutMs: seconds * 1000 + MARGIN_MS });
  const told = await run.catch(String);
  return round(Math.max(0, ...[...told.matchAll(/-(\d+\.\d+) +sec /g)].map(([, end]) => Number(end))));
}

async function iperf(
  cluster: Cluster,
  { within, server, seconds }: Pick<HttpLoad, 'within' | 'server' | 'seconds'>,
): Promise<unknown> {
  const command = [...IPERF, '-J', '-c', server, '-t', String(seconds)];
  return JSON.parse(await cluster.podExec(within, 'cl1', command, { timeoutMs: seconds * 1000 + MARGIN_MS }));
}

export function numberAt(value: unknown, ...path: readonly string[]): number {
  const found = valueAt(value, ...path);
  if (typeof found !== 'number') throw new Error(`no number at ${path.join('.')}`);
  return found;
}

function percentile(histogram: unknown, wanted: number): number {
  const all = valueAt(histogram, 'Percentiles');
  if (!Array.isArray(all)) throw new Error('no percentiles');
  const found: unknown = all.find((entry) => valueAt(entry, 'Percentile') === wanted);
  return milliseconds(numberAt(found, 'Value'));
}

function milliseconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1000;
}

export function round(value: number): number {
  return Math.round(value * 100) / 100;
}
