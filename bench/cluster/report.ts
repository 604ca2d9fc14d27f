/** The raw results of a run, and the table of the goals. */
import { median } from '../results.ts';
import type { Disruption } from './disruptions.ts';
import type { PodStart } from './pod-start.ts';
import type { Measure, RateSample } from './rates.ts';
import type { Usage } from './usage.ts';
import type { Path } from './world.ts';

export interface Memory {
  readonly when: string;
  readonly node: string;
  readonly agent: Usage;
  readonly control: Usage;
}

/** The file in bench/results. */
export interface ClusterResults {
  readonly startedAt: string;
  readonly quick: boolean;
  /** Load of the machine before each step: what else ran is in the numbers. */
  readonly machine: Record<string, Readonly<Record<string, number>>>;
  /** Seconds of `ambit install` until everything is ready. */
  readonly installSeconds: Record<string, number>;
  readonly rates: RateSample[];
  readonly disruptions: Disruption[];
  readonly podStarts: PodStart[];
  readonly memory: Memory[];
  readonly failures: { readonly step: string; readonly reason: string }[];
}

/** Measure, what Istio ambient reached with the same work on a bed of this kind, goal, and what was reached. */
type Row = readonly [string, string, string, string];

export function renderReport(results: ClusterResults): string {
  const rows: Row[] = [
    ['measure', 'Istio', 'goal', 'here'],
    ['install, cold', '19-21 s', '<= 12 s', seconds(results.installSeconds.cold)],
    ['install, warm', '10.5 s', '<= 7 s', seconds(results.installSeconds.warm)],
    ['resident per node', '93 MiB', '<= 90 MiB', memory(results, (entry) => entry.agent)],
    ['resident, control plane', '133 MiB', '<= 130 MiB', memory(results, (entry) => entry.control)],
    ...disruptionRows(results),
    ['pod start, added', '+530 ms', '<= +150 ms', addedStart(results.podStarts)],
    ['added p50 at 1000/s, cross', '0.38 ms', '<= 0.25 ms', addedLatency(results, 'cross')],
    ['added p50 at 1000/s, same', '0.27 ms', '<= 0.10 ms', addedLatency(results, 'same')],
    ['most requests/s, cross', '0.37', '>= 0.55', share(results, 'most', 'cross', 'perSecond')],
    ['most requests/s, same', '0.52', '>= 0.75', share(results, 'most', 'same', 'perSecond')],
    ['one stream, cross', '0.41', '>= 0.45', share(results, 'stream', 'cross', 'gigabits')],
    ['one stream, same', '0.44', '>= 0.70', share(results, 'stream', 'same', 'gigabits')],
    ['new connections/s, cross', '0.36', '>= 0.55', share(results, 'connections', 'cross', 'perSecond')],
    ['new connections/s, same', '0.39', '>= 0.70', share(results, 'connections', 'same', 'perSecond')],
    ['agent CPU per request, cross', '57-63 us', '<= 40 us', cpu(results, 'most', 'cross')],
    ['agent CPU per connection, cross', '480-590 us', '', cpu(results, 'connections', 'cross')],
    ...results.failures.map(({ step, reason }): Row => [`${step} FAILED`, '', '', reason.slice(0, 80)]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column as 0 | 1 | 2].length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')).join('\n');
}

function disruptionRows({ disruptions }: ClusterResults): Row[] {
  return disruptions.map(({ name, kept, fresh, values }): Row => {
    const numbers = Object.entries(values).map(([key, value]) => `${key} ${value}`);
    const text = [
      `kept: ${kept.failed} of ${kept.requests} failed, ${kept.reconnects} reconnects, max ${Math.round(kept.maxMs)} ms`,
      `new: ${fresh.failed} of ${fresh.requests} failed, max ${Math.round(fresh.maxMs)} ms`,
      ...numbers,
    ].join('; ');
    return [name, '', '', text];
  });
}

function values(results: ClusterResults, measure: Measure, path: Path, mesh: boolean, key: string): number[] {
  return results.rates
    .filter((sample) => sample.measure === measure && sample.path === path && sample.mesh === mesh)
    .flatMap((sample) => sample.values[key] ?? []);
}

function share(results: ClusterResults, measure: Measure, path: Path, key: string): string {
  const mesh = median(values(results, measure, path, true, key));
  const plain = median(values(results, measure, path, false, key));
  if (mesh === undefined || plain === undefined || plain === 0) return '-';
  return `${(mesh / plain).toFixed(2)} (${Math.round(mesh * 10) / 10} of ${Math.round(plain * 10) / 10})`;
}

function addedLatency(results: ClusterResults, path: Path): string {
  const mesh = median(values(results, 'paced', path, true, 'p50Ms'));
  const plain = median(values(results, 'paced', path, false, 'p50Ms'));
  if (mesh === undefined || plain === undefined) return '-';
  return `${(mesh - plain).toFixed(2)} ms (${mesh.toFixed(2)} - ${plain.toFixed(2)})`;
}

function cpu(results: ClusterResults, measure: Measure, path: Path): string {
  const used = median(values(results, measure, path, true, 'agentCpuMicrosPerUnit'));
  return used === undefined ? '-' : `${Math.round(used)} us`;
}

function addedStart(starts: readonly PodStart[]): string {
  const of = (mesh: boolean) => median(starts.filter((start) => start.mesh === mesh).map(({ ms }) => ms));
  const [mesh, plain] = [of(true), of(false)];
  return mesh === undefined || plain === undefined ? '-' : `${Math.round(mesh - plain)} ms (${mesh} - ${plain})`;
}

function seconds(value: number | undefined): string {
  return value === undefined ? '-' : `${value} s`;
}

function memory(results: ClusterResults, of: (entry: Memory) => Usage): string {
  const entries = results.memory.map((entry) => ({ when: entry.when, usage: of(entry) }));
  return entries
    .filter(({ usage }) => usage.pids.length > 0)
    .map(({ when, usage }) => `${when} ${usage.residentMiB} (anonymous ${usage.anonymousMiB})`)
    .join(', ');
}
