/** What the processes of the agent and of the control plane use, read in the nodes. */
import { availableParallelism, loadavg } from 'node:os';
import type { Cluster } from '../../test/support/cluster.ts';

/** A bracket keeps the pattern from matching the command that looks for it. */
const AGENT = '[/]opt/ambit/agent/';
const CONTROL = '[/]opt/ambit/control/main.js';
/** /proc/PID/stat counts in these. */
const TICKS_PER_SECOND = 100;

export interface Usage {
  readonly pids: readonly number[];
  /** User and system time since the start, seconds. */
  readonly cpuSeconds: number;
  readonly residentMiB: number;
  /** The part of it that is not of files. */
  readonly anonymousMiB: number;
}

export function agentUsage(cluster: Cluster, node: string): Promise<Usage> {
  return usageOf(cluster, node, AGENT);
}

export function controlUsage(cluster: Cluster, node: string): Promise<Usage> {
  return usageOf(cluster, node, CONTROL);
}

/** Ends the process that carries the connections, not the one that watches it. */
export async function killAgent(cluster: Cluster, node: string): Promise<void> {
  await cluster.nodeExec(node, ['sh', '-c', "kill -9 $(pgrep -o -f '^node [/]opt/ambit/agent/main.js')"]);
}

/** As it is now; results of different load are not to be compared. */
export function machine(): Readonly<Record<string, number>> {
  const [one = 0, five = 0] = loadavg();
  return { cores: availableParallelism(), load1: Math.round(one * 10) / 10, load5: Math.round(five * 10) / 10 };
}

async function usageOf(cluster: Cluster, node: string, pattern: string): Promise<Usage> {
  const script = `for pid in $(pgrep -f '${pattern}'); do
    set -- $(sed 's/.*) //' /proc/$pid/stat); cpu=$((\${12} + \${13}))
    echo $pid $cpu $(awk '/^Rss:/ { rss = $2 } /^Anonymous:/ { anon = $2 } END { print rss, anon }' /proc/$pid/smaps_rollup)
  done`;
  const lines = (await cluster.nodeExec(node, ['sh', '-c', script])).split('\n').filter((line) => line !== '');
  const rows = lines.map((line) => line.split(' ').map(Number));
  const sum = (column: number): number => rows.reduce((total, row) => total + (row[column] ?? 0), 0);
  return {
    pids: rows.map(([pid = 0]) => pid),
    cpuSeconds: sum(1) / TICKS_PER_SECOND,
    residentMiB: Math.round(sum(2) / 102.4) / 10,
    anonymousMiB: Math.round(sum(3) / 102.4) / 10,
  };
}
