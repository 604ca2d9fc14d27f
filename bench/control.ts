/**
 * How the control plane carries a large mesh: bytes and CPU per change, time until the last agent knows of it, what a
 * reconnect of all agents costs, and memory.
 *
 *   node bench/control.ts [--pods 10000] [--services 1000] [--agents 200] [--events 30] [--large 100000] [--out <file>]
 *
 * Three processes: this one, the control plane, and all agents together. Takes about two minutes. Needs no root.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { TestRoot } from '../test/support/control-server.ts';
import type { MeshSize } from './control/mesh-objects.ts';
import type { FromAgents, FromServer, ServerUsage, ToAgents, ToServer } from './control/messages.ts';

const GOALS = { propagationP99Ms: 500, largeResidentBytes: 1.5e9 };
/** Pods that one scale event adds; as many are removed. */
const PODS_PER_EVENT = 5;

const { values: options } = parseArgs({
  options: {
    pods: { type: 'string', default: '10000' },
    services: { type: 'string', default: '1000' },
    agents: { type: 'string', default: '200' },
    events: { type: 'string', default: '30' },
    large: { type: 'string', default: '100000' },
    out: { type: 'string' },
  },
});

/** A child process that answers messages in order. */
class Child<To, From extends { readonly kind: string }> {
  readonly #process: ChildProcess;

  constructor(file: string, execArgv: readonly string[] = []) {
    const path = join(import.meta.dirname, 'control', file);
    this.#process = fork(path, [], { execArgv: [...execArgv], env: { ...process.env, AMBIT_LOG_LEVEL: 'error' } });
  }

  send(message: To & object): void {
    this.#process.send(message);
  }

  /** The next message of this kind. */
  next<K extends From['kind']>(kind: K, timeoutMs = 120_000): Promise<Extract<From, { kind: K }>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${kind} within ${timeoutMs} ms`)), timeoutMs);
      const ended = (code: number | null): void => reject(new Error(`a process ended with ${code}`));
      const listen = (message: From): void => {
        if (!isKind(message, kind)) return;
        clearTimeout(timer);
        this.#process.off('message', listen);
        this.#process.off('exit', ended);
        resolve(message);
      };
      this.#process.on('message', listen);
      this.#process.once('exit', ended);
    });
  }

  end(): void {
    if (this.#process.connected) this.#process.disconnect();
  }
}

function isKind<M extends { readonly kind: string }, K extends M['kind']>(
  message: M,
  kind: K,
): message is Extract<M, { kind: K }> {
  return message.kind === kind;
}

type ServerChild = Child<ToServer, FromServer>;
type AgentsChild = Child<ToAgents, FromAgents>;

function usageOf(server: ServerChild, kind: 'usage' | 'collect' = 'usage'): Promise<ServerUsage> {
  const answer = server.next('usage');
  server.send({ kind });
  return answer.then(({ usage }) => usage);
}

/** Until `agents` clients are connected and have acknowledged everything. */
async function settled(server: ServerChild, agents: number): Promise<ServerUsage> {
  for (;;) {
    const usage = await usageOf(server);
    if (usage.synced >= agents) return usage;
    await delay(100);
  }
}

async function startServer(size: MeshSize): Promise<{
  server: ServerChild;
  serving: Extract<FromServer, { kind: 'serving' }>;
  rootsPem: string;
}> {
  const root = new TestRoot();
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = root.sign(keys.publicKey, [{ kind: 'ip', value: '127.0.0.1' }]);
  const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const server: ServerChild = new Child('server-process.ts', ['--expose-gc']);
  const serving = server.next('serving');
  server.send({ kind: 'start', size, certificate, key });
  return { server, serving: await serving, rootsPem: root.pem };
}

async function connectAgents(agents: AgentsChild, port: number, rootsPem: string, count: number) {
  const synced = agents.next('synced');
  agents.send({ kind: 'connect', port, rootsPem, agents: count });
  return synced;
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

async function churn(server: ServerChild, agents: AgentsChild, count: number, events: number) {
  const before = await settled(server, count);
  const startedMs = performance.now();
  const published = new Map<number, bigint>();
  for (let event = 1; event <= events; event++) {
    const scaled = server.next('scaled');
    server.send({ kind: 'scale', event, pods: PODS_PER_EVENT });
    published.set(event, BigInt((await scaled).atNs));
    await delay(Math.max(0, startedMs + event * 1000 - performance.now()));
  }
  const after = await settled(server, count);
  const elapsedMs = performance.now() - startedMs;
  const answer = agents.next('report');
  agents.send({ kind: 'report' });
  const { arrivals } = await answer;
  const latenciesMs: number[] = [];
  for (const [event, atNs] of published) {
    for (const time of arrivals[String(event)] ?? []) latenciesMs.push(Number(BigInt(time) - atNs) / 1e6);
  }
  latenciesMs.sort((a, b) => a - b);
  return {
    events,
    podsAddedAndRemoved: PODS_PER_EVENT,
    observed: latenciesMs.length,
    expected: events * count,
    propagationMs: {
      p50: percentile(latenciesMs, 0.5),
      p90: percentile(latenciesMs, 0.9),
      p99: percentile(latenciesMs, 0.99),
      max: latenciesMs.at(-1) ?? Number.NaN,
    },
    bytesPerEvent: (after.bytesSent - before.bytesSent) / events,
    bytesPerEventAndAgent: (after.bytesSent - before.bytesSent) / events / count,
    cpuMsPerEvent: (after.cpuMs - before.cpuMs) / events,
    cores: (after.cpuMs - before.cpuMs) / elapsedMs,
  };
}

async function main(): Promise<void> {
  const [pods, services, count, events] = [options.pods, options.services, options.agents, options.events].map(Number);
  const size: MeshSize = { pods: pods ?? 0, services: services ?? 0, nodes: count ?? 0, namespaces: 50 };
  const children: { end(): void }[] = [];
  const startedAt = new Date().toISOString();
  const loadAtStart = loadavg();
  try {
    const { server, serving, rootsPem } = await startServer(size);
    const agents: AgentsChild = new Child('agents-process.ts');
    children.push(server, agents);
    const idle = await usageOf(server, 'collect');
    const first = await connectAgents(agents, serving.port, rootsPem, size.nodes);
    const synced = await settled(server, size.nodes);
    console.error(`full answers for ${size.nodes} agents in ${first.ms.toFixed(0)} ms`);
    const changes = await churn(server, agents, size.nodes, events ?? 0);
    console.error(`changes: p99 ${changes.propagationMs.p99.toFixed(1)} ms`);
    const beforeReconnect = await usageOf(server, 'collect');
    const resynced = agents.next('synced');
    agents.send({ kind: 'reconnect' });
    const second = await resynced;
    const afterReconnect = await settled(server, size.nodes);
    console.error(`reconnect of all agents in ${second.ms.toFixed(0)} ms, ${second.bytes} bytes`);
    for (const child of children.splice(0)) child.end();

    const largeSize = { ...size, pods: Number(options.large), nodes: 1000, namespaces: 100 };
    const largeAgents = 10;
    const large = await startServer(largeSize);
    const few: AgentsChild = new Child('agents-process.ts');
    children.push(large.server, few);
    const largeIdle = await usageOf(large.server, 'collect');
    const largeSync = await connectAgents(few, large.serving.port, large.rootsPem, largeAgents);
    const largePeak = await settled(large.server, largeAgents);
    const largeChanges = await churn(large.server, few, largeAgents, 5);
    const largeAfter = await usageOf(large.server, 'collect');

    const result = {
      startedAt,
      machine: { cpu: cpus()[0]?.model ?? '', cores: cpus().length, memoryBytes: totalmem(), node: process.version },
      loadAtStart,
      loadAtEnd: loadavg(),
      goals: GOALS,
      mesh: { ...size, resources: serving.resources, readyMs: serving.readyMs },
      idle,
      fullAnswers: { ms: first.ms, bytes: first.bytes, bytesPerAgent: first.bytes / size.nodes, usage: synced },
      changes,
      reconnect: {
        ms: second.ms,
        bytes: second.bytes,
        bytesPerAgent: second.bytes / size.nodes,
        resourcesSentAgain: second.resources,
        cpuMs: afterReconnect.cpuMs - beforeReconnect.cpuMs,
        usage: afterReconnect,
      },
      large: {
        ...{ ...largeSize, resources: large.serving.resources, readyMs: large.serving.readyMs, idle: largeIdle },
        fullAnswers: { agents: largeAgents, ms: largeSync.ms, bytesPerAgent: largeSync.bytes / largeAgents },
        ...{ usage: largePeak, changes: largeChanges, afterwards: largeAfter },
      },
    };
    const text = `${JSON.stringify(result, undefined, 2)}\n`;
    if (options.out === undefined) process.stdout.write(text);
    else writeFileSync(options.out, text);
    verdicts(result.changes.propagationMs.p99, second.resources, largePeak.residentBytes);
  } finally {
    for (const child of children) child.end();
  }
}

function verdicts(p99Ms: number, sentAgain: number, largeResident: number): void {
  const rows: readonly [met: boolean, text: string][] = [
    [p99Ms <= GOALS.propagationP99Ms, `propagation p99 ${p99Ms.toFixed(1)} ms, at most ${GOALS.propagationP99Ms}`],
    [sentAgain === 0, `resources sent again after a reconnect: ${sentAgain}, at most 0`],
    [
      largeResident <= GOALS.largeResidentBytes,
      `resident with the large mesh ${(largeResident / 1e6).toFixed(0)} MB, at most ${GOALS.largeResidentBytes / 1e6}`,
    ],
  ];
  for (const [met, text] of rows) console.error(`${met ? 'met   ' : 'MISSED'} ${text}`);
  if (rows.some(([met]) => !met)) process.exitCode = 1;
}

await main();
