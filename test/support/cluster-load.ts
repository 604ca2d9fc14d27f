/**
 * A pod that calls others without pause (test/cluster/app/load.js), and the pods it calls. What happened in a span of time
 * is read from its log: how much succeeded, every failure by kind, and the longest time without a success.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cluster } from './cluster.ts';
import { APP_PORT, pod } from './cluster-workloads.ts';
import { eventually } from './eventually.ts';
import { valueAt } from './kube-api-call.ts';
import { ROOT } from './source-files.ts';

/** Of the plain TCP echo. */
export const ECHO_PORT = 9090;
/** In every request and on every line: seen on a wire, it was not encrypted. */
export const MARKER = 'the-text-nobody-may-read';

const STARTED_MS = 60_000;

export interface EchoOptions {
  readonly namespace: string;
  readonly name: string;
  readonly node?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly podSpec?: object;
}

/** A pod that answers HTTP and echoes TCP, and a service of its name. */
export function echo({ namespace, name, node, labels = {}, podSpec = {} }: EchoOptions): object[] {
  const ports = [
    { name: 'http', port: 80, targetPort: APP_PORT },
    { name: 'tcp-echo', port: ECHO_PORT, targetPort: ECHO_PORT },
  ];
  return [
    pod({
      name,
      namespace,
      labels,
      podSpec: { ...(node === undefined ? {} : { nodeName: node }), ...podSpec },
      container: { command: ['node', '-e', script('echo.js')] },
    }),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace },
      spec: { selector: { app: name }, ports },
    },
  ];
}

export interface LoadReport {
  /** Successes by `new|keep|long <target>`. */
  readonly ok: Readonly<Record<string, number>>;
  /** Failures by `new|keep|long <target> <error>`. */
  readonly bad: Readonly<Record<string, number>>;
  /** Longest time between two successes that ended in the span, ms. */
  readonly gap: Readonly<Record<string, number>>;
}

export class Load {
  readonly #cluster: Cluster;
  readonly #namespace: string;
  readonly #name: string;
  readonly #kinds: readonly string[];

  private constructor(cluster: Cluster, namespace: string, name: string, targets: readonly string[]) {
    this.#cluster = cluster;
    this.#namespace = namespace;
    this.#name = name;
    this.#kinds = targets.flatMap((target) => ['new', 'keep', 'long'].map((kind) => `${kind} ${target}`));
  }

  /** Resolves when every kind of call to every target succeeds. */
  static async start(
    cluster: Cluster,
    options: { readonly namespace: string; readonly name: string; readonly node: string; readonly targets: string[] },
  ): Promise<Load> {
    const { namespace, name, node, targets } = options;
    const env = [
      { name: 'TARGETS', value: targets.join(',') },
      { name: 'MARKER', value: MARKER },
    ];
    const container = { command: ['node', '-e', script('load.js')], env, readinessProbe: null };
    await cluster.apply(pod({ name, namespace, podSpec: { nodeName: node }, container }));
    await cluster.waitFor(namespace, `pod/${name}`, 'condition=Ready');
    const load = new Load(cluster, namespace, name, targets);
    await load.goesOn(Date.now());
    return load;
  }

  /** Resolves when, after `sinceMs`, every kind of call to every target has succeeded. */
  async goesOn(sinceMs: number): Promise<void> {
    await eventually(
      'every kind of call succeeds',
      async () => {
        const report = await this.since(sinceMs);
        const silent = this.#kinds.filter((kind) => report.ok[kind] === undefined);
        if (silent.length > 0) throw new Error(`${silent.join(', ')}: ${JSON.stringify(report.bad)}`);
      },
      STARTED_MS,
    );
  }

  /** What happened from `sinceMs` (of the epoch) until now, or until `untilMs`. */
  async since(sinceMs: number, untilMs = Number.POSITIVE_INFINITY): Promise<LoadReport> {
    const time = new Date(sinceMs - 1000).toISOString();
    const log = await this.#cluster.kubectl(['logs', '-n', this.#namespace, this.#name, `--since-time=${time}`]);
    return readLoad(log, sinceMs, untilMs);
  }
}

/** What the lines of a load's log say about a span of time. */
export function readLoad(log: string, sinceMs: number, untilMs = Number.POSITIVE_INFINITY): LoadReport {
  const report = { ok: {}, bad: {}, gap: {} };
  for (const line of log.split('\n')) {
    if (!line.startsWith('{')) continue;
    const bucket: unknown = JSON.parse(line);
    const t = valueAt(bucket, 't');
    if (typeof t !== 'number' || t < sinceMs || t > untilMs) continue;
    merge(report.ok, valueAt(bucket, 'ok'), (a, b) => a + b);
    merge(report.bad, valueAt(bucket, 'bad'), (a, b) => a + b);
    merge(report.gap, valueAt(bucket, 'gap'), Math.max);
  }
  return report;
}

/** Only of this kind (`new`, `keep`, `long`), and without what every client has to expect of an idle connection. */
export function failuresOf(report: LoadReport, kind: string): Record<string, number> {
  return Object.fromEntries(
    Object.entries(report.bad).filter(([name]) => name.startsWith(`${kind} `) && !name.includes(' idle-')),
  );
}

function merge(into: Record<string, number>, from: unknown, how: (a: number, b: number) => number): void {
  for (const [key, value] of Object.entries(Object(from))) {
    if (typeof value === 'number') into[key] = into[key] === undefined ? value : how(into[key], value);
  }
}

function script(file: string): string {
  return readFileSync(join(ROOT, 'test', 'cluster', 'app', file), 'utf8');
}
