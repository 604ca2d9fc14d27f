/**
 * `npm run bench`: measures every subject side by side. Each subject has a pair of namespaces of its own, all run at once
 * and idle, and every measurement visits one after the other before the next begins, in several rounds, so that the
 * noise of the machine meets all alike. Raw numbers go to bench/results.
 *
 *     --quick               one short round
 *     --rounds <n>          --seconds <n>
 *     --only <name,...>     subjects to run          --measure <prefix,...>   measurements to run
 *     --peer <file.mjs>     a further subject (repeatable): default export of the module, see subjects/subject.ts
 *     --no-memory           leaves out memory and idle connections
 *     --output <file>       instead of bench/results/<date>.json
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { createIdentities } from './identities.ts';
import type { Measurement, Target } from './measure/measurement.ts';
import { memoryOf, memoryWithIdle } from './measure/memory.ts';
import { CLIENT_ADDRESS, createPair, openFileLimit, removeAbandoned, SERVER_ADDRESS } from './namespaces.ts';
import { FULL_PLAN, MEASUREMENTS, type Plan, QUICK_PLAN, unitsPerSecond } from './plan.ts';
import { cpuSeconds } from './process-usage.ts';
import { type RunResults, renderReport, type Sample, type SubjectMemory } from './results.ts';
import { HTTP_PORT, startServers, THROUGHPUT_PORT } from './servers.ts';
import { hbone, passThrough } from './subjects/ambit.ts';
import { direct } from './subjects/direct.ts';
import { haproxy } from './subjects/haproxy.ts';
import { sameNode } from './subjects/same-node.ts';
import type { Subject } from './subjects/subject.ts';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string' },
    measure: { type: 'string' },
    peer: { type: 'string', multiple: true, default: [] },
    memory: { type: 'boolean', default: true },
    output: { type: 'string' },
  },
  allowNegative: true,
});

const SETTLE_MS = 5000;

const startedAt = new Date().toISOString();
const scratch = mkdtempSync(join(tmpdir(), 'ambit-bench-'));
const cleanup: (() => Promise<void>)[] = [];
const samples: Sample[] = [];
const memory: SubjectMemory[] = [];
const failures: RunResults['failures'][number][] = [];

process.on('SIGINT', () => void end(130));
process.on('SIGTERM', () => void end(143));

try {
  await main();
  await end(failures.length === 0 ? 0 : 1);
} catch (error) {
  console.error(error);
  await end(1);
}

async function main(): Promise<void> {
  removeAbandoned();
  const plan = planOf(options.quick ? QUICK_PLAN : FULL_PLAN);
  const subjects = await chooseSubjects();
  const measurements = chooseMeasurements();
  const targets: Target[] = [];
  for (const subject of subjects) targets.push(await startTarget(subject));
  // Agents give back the memory of their start a little after it.
  await delay(SETTLE_MS);
  const idle = new Map(targets.map((target) => [target.subject.name, memoryOf(target)]));
  for (let round = 1; round <= plan.rounds; round++) {
    for (const measurement of measurements) {
      for (const target of targets) await measure(round, measurement, target, plan.seconds);
    }
  }
  if (options.memory)
    for (const target of targets) await measureMemory(target, plan, idle.get(target.subject.name) ?? []);
  finish(plan, subjects);
}

function planOf(base: Plan): Plan {
  const { rounds, seconds } = options;
  // A proxy without multiplexing needs two descriptors for each connection.
  const most = Math.floor((openFileLimit() - 200) / 2);
  return {
    rounds: Number(rounds ?? base.rounds),
    seconds: Number(seconds ?? base.seconds),
    idleConnections: base.idleConnections.map((count) => Math.min(count, most)),
  };
}

async function chooseSubjects(): Promise<Subject[]> {
  const peers = await Promise.all(options.peer.map(loadPeer));
  const all = [direct, passThrough, sameNode, hbone, haproxy, ...peers];
  const wanted = options.only?.split(',');
  const chosen = all.filter(({ name }) => wanted === undefined || wanted.includes(name));
  if (chosen.length === 0) throw new Error(`no such subject; there are: ${all.map(({ name }) => name).join(', ')}`);
  return chosen;
}

async function loadPeer(file: string): Promise<Subject> {
  const module: { readonly default?: Partial<Subject> } = await import(pathToFileURL(resolve(file)).href);
  const { name, about = file, start } = module.default ?? {};
  if (name === undefined || typeof start !== 'function')
    throw new Error(`${file}: its default export is not a Subject`);
  return { name, about, start };
}

function chooseMeasurements(): Measurement[] {
  const prefixes = options.measure?.split(',');
  return MEASUREMENTS.filter(
    ({ name }) => prefixes === undefined || prefixes.some((prefix) => name.startsWith(prefix)),
  );
}

async function startTarget(subject: Subject): Promise<Target> {
  const folder = join(scratch, subject.name.replaceAll(' ', '-'));
  mkdirSync(folder, { recursive: true });
  const pair = createPair();
  cleanup.push(async () => {
    await Promise.all([pair.client.remove(), pair.server.remove()]);
  });
  await startServers(pair.server, join(folder, 'servers'));
  const world = {
    ...pair,
    clientAddress: CLIENT_ADDRESS,
    serverAddress: SERVER_ADDRESS,
    httpPort: HTTP_PORT,
    throughputPort: THROUGHPUT_PORT,
    folder,
    identities: createIdentities(folder),
  };
  say(`starting ${subject.name}: ${subject.about}`);
  const running = await subject.start(world);
  cleanup.push(() => running.stop());
  return { subject, world, running };
}

async function measure(round: number, measurement: Measurement, target: Target, seconds: number): Promise<void> {
  const { name } = target.subject;
  const cpu = (): number => target.running.proxies.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  try {
    const cpuBefore = cpu();
    const startedMs = performance.now();
    const values = await measurement.run(target, seconds);
    const elapsed = (performance.now() - startedMs) / 1000;
    const used = cpu() - cpuBefore;
    const perSecond = unitsPerSecond(values);
    const all: Record<string, number> = { ...values, cpuSeconds: used, cores: used / elapsed };
    if (perSecond !== undefined) all.cpuPerUnit = (used * 1000) / (perSecond * seconds);
    samples.push({ round, measurement: measurement.name, subject: name, values: all });
    say(`round ${round}  ${measurement.name.padEnd(20)} ${name.padEnd(14)} ${brief(values)}`);
  } catch (error) {
    fail(name, measurement.name, error);
  }
}

async function measureMemory(target: Target, plan: Plan, idle: readonly number[]): Promise<void> {
  if (target.running.proxies.length === 0) return;
  const { name } = target.subject;
  try {
    const busy = memoryOf(target);
    say(`memory with ${plan.idleConnections.join(', ')} idle connections: ${name}`);
    memory.push({ subject: name, idle, busy, withConnections: await memoryWithIdle(target, plan.idleConnections) });
  } catch (error) {
    fail(name, 'memory', error);
  }
}

function finish(plan: Plan, subjects: readonly Subject[]): void {
  const results: RunResults = {
    startedAt,
    machine: {
      cpu: cpus()[0]?.model ?? '',
      cores: cpus().length,
      memoryBytes: totalmem(),
      kernel: release(),
      node: process.version,
    },
    plan,
    subjects: subjects.map(({ name, about }) => ({ name, about })),
    samples,
    memory,
    failures,
  };
  const file = options.output ?? join(import.meta.dirname, 'results', `${startedAt.replace(/[:.]/g, '-')}.json`);
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
  process.stdout.write(`\n${renderReport(results)}\nraw results: ${file}\n`);
}

function fail(subject: string, measurement: string, error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  failures.push({ subject, measurement, reason });
  say(`FAILED ${subject} ${measurement}: ${reason}`);
}

function brief(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${value.toFixed(value < 10 ? 3 : 0)}`)
    .join('  ');
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Takes everything down, last first, and ends the process. */
async function end(status: number): Promise<void> {
  for (const step of cleanup.splice(0).reverse()) await step().catch((error: unknown) => console.error(error));
  rmSync(scratch, { recursive: true, force: true });
  process.exit(status);
}
