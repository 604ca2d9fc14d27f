/** The raw results of a run, what is derived from them, and the table people read. */
import type { MemoryResult } from './measure/memory.ts';
import { GOALS, IDLE_AGENT_BYTES, IDLE_CONNECTION_BYTES, METRICS, type Plan } from './plan.ts';

export interface Sample {
  readonly round: number;
  readonly measurement: string;
  readonly subject: string;
  readonly values: Readonly<Record<string, number>>;
}

export interface SubjectMemory {
  readonly subject: string;
  readonly idle: readonly number[];
  readonly busy: readonly number[];
  readonly withConnections: readonly MemoryResult[];
}

/** The file in bench/results. */
export interface RunResults {
  readonly startedAt: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly plan: Plan;
  readonly subjects: readonly { readonly name: string; readonly about: string }[];
  readonly samples: readonly Sample[];
  readonly memory: readonly SubjectMemory[];
  readonly failures: readonly { readonly subject: string; readonly measurement: string; readonly reason: string }[];
}

export function median(values: readonly number[]): number | undefined {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[middle - 1] ?? 0, sorted[middle] ?? 0];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

/** Median over the rounds, or undefined when the subject has no such number. */
export function medianOf(
  results: RunResults,
  subject: string,
  measurement: string,
  metric: string,
): number | undefined {
  const values = results.samples
    .filter((sample) => sample.subject === subject && sample.measurement === measurement)
    .flatMap(({ values }) => values[metric] ?? []);
  return median(values);
}

/** Plain text: medians, the ratio of every subject to the public peer in brackets, memory, goals. */
export function renderReport(results: RunResults): string {
  const names = results.subjects.map(({ name }) => name);
  const lines = [row('', names)];
  for (const { measurement, metric, label, unit, digits } of METRICS) {
    const reference = medianOf(results, 'haproxy tls', measurement, metric);
    const cells = names.map((name) => {
      const value = medianOf(results, name, measurement, metric);
      if (value === undefined) return '-';
      const ratio = reference === undefined || reference === 0 ? '' : ` (${(value / reference).toFixed(2)})`;
      return `${value.toFixed(digits)}${ratio}`;
    });
    if (cells.some((cell) => cell !== '-')) lines.push(row(unit === '' ? label : `${label}, ${unit}`, cells));
  }
  lines.push('', 'Medians of the rounds; in brackets the ratio to the HAProxy pair of the same run.', '');
  lines.push(...renderMemory(results), ...renderGoals(results), ...renderFailures(results));
  return `${lines.join('\n')}\n`;
}

function row(label: string, cells: readonly string[]): string {
  return label.padEnd(54) + cells.map((cell) => cell.padStart(18)).join('');
}

function renderMemory(results: RunResults): string[] {
  const counts = results.plan.idleConnections;
  const heading = [
    'resident memory, MB',
    ...['started', 'after load', ...counts.map((count) => `${count} idle`), 'bytes/idle conn.'],
  ];
  const lines = [
    heading[0]?.padEnd(30) +
      heading
        .slice(1)
        .map((text) => text.padStart(16))
        .join(''),
  ];
  for (const memory of results.memory) {
    const proxies = [...new Set(memory.withConnections.map(({ proxy }) => proxy))];
    memory.idle.forEach((started, index) => {
      const proxy = proxies[index];
      const steps = memory.withConnections.filter((step) => step.proxy === proxy).map((step) => step.residentBytes);
      const perConnection = bytesPerConnection(memory, proxy);
      const cells = [started, memory.busy[index] ?? 0, ...steps].map((bytes) => (bytes / 1e6).toFixed(1));
      const label = `${memory.subject}${proxy === undefined ? '' : `, ${proxy}`}`;
      lines.push(
        label.padEnd(30) + [...cells, perConnection?.toFixed(0) ?? '-'].map((cell) => cell.padStart(16)).join(''),
      );
    });
  }
  return [...lines, ''];
}

/** Slope between the last two counts: what each further idle connection costs. */
export function bytesPerConnection(memory: SubjectMemory, proxy: string | undefined): number | undefined {
  const [before, last] = memory.withConnections.filter((step) => step.proxy === proxy).slice(-2);
  if (before === undefined || last === undefined || last.connections === before.connections) return undefined;
  return (last.residentBytes - before.residentBytes) / (last.connections - before.connections);
}

function renderGoals(results: RunResults): string[] {
  const lines = ['goals (HBONE to the HAProxy pair)'];
  const verdict = (met: boolean): string => (met ? 'met   ' : 'MISSED');
  for (const { measurement, metric, label, ratio, sense } of GOALS) {
    const [own, reference] = ['hbone', 'haproxy tls'].map((name) => medianOf(results, name, measurement, metric));
    if (own === undefined || reference === undefined) continue;
    const reached = own / reference;
    const met = sense === 'at least' ? reached >= ratio : reached <= ratio;
    lines.push(`  ${verdict(met)} ${label}: ${reached.toFixed(2)}, ${sense} ${ratio}`);
  }
  const memory = results.memory.find(({ subject }) => subject === 'hbone');
  if (memory !== undefined) {
    const idle = Math.max(...memory.idle);
    lines.push(`  ${verdict(idle <= IDLE_AGENT_BYTES)} idle agent: ${(idle / 1e6).toFixed(1)} MB, at most 90 MB`);
    for (const proxy of new Set(memory.withConnections.map((step) => step.proxy))) {
      const bytes = bytesPerConnection(memory, proxy) ?? Number.NaN;
      const met = verdict(bytes <= IDLE_CONNECTION_BYTES);
      lines.push(`  ${met} idle tunnelled connection, ${proxy}: ${bytes.toFixed(0)} bytes, at most 3072`);
    }
  }
  return lines.length > 1 ? [...lines, ''] : [];
}

function renderFailures({ failures }: RunResults): string[] {
  return failures.map(({ subject, measurement, reason }) => `FAILED ${subject} ${measurement}: ${reason}`);
}
