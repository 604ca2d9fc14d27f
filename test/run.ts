/**
 * Runs the tests: every tier, or those named on the command line (`npm test -- unit net`), or single files
 * (`npm test -- unit/core/ip`). `--kubeconfig FILE` runs the tier `cluster` on a cluster that is there already. Prints each file as it ends, a table of the tiers, and as its last line exactly
 * `N passed, N failed`. A tier or a test that cannot run here is a loud SKIP, and a failure when CI=true.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { styleText } from 'node:util';
import { type FileResult, runTestFile } from './support/test-file.ts';
import { TIERS, type Tier, type TierCommand } from './support/tiers.ts';

interface TierResult {
  readonly tier: Tier;
  passed: number;
  failed: number;
  skipped: number;
  durationMs: number;
}

interface Failure {
  readonly where: string;
  readonly reason: string;
}

const TEST_FOLDER = import.meta.dirname;
const CI = process.env.CI === 'true';
const failures: Failure[] = [];
const skips: Failure[] = [];

await main(process.argv.slice(2));

async function main(line: readonly string[]): Promise<void> {
  const args = takeKubeconfig(line);
  process.chdir(join(TEST_FOLDER, '..'));
  const unknown = args.filter((arg) => !TIERS.some((tier) => arg === tier.name || arg.startsWith(`${tier.name}/`)));
  if (unknown.length > 0) {
    print(`unknown: ${unknown.join(', ')}; tiers are ${TIERS.map((tier) => tier.name).join(', ')}`);
    process.exitCode = 2;
    return;
  }
  const results: TierResult[] = [];
  for (const tier of TIERS) {
    const wanted = args.filter((arg) => arg === tier.name || arg.startsWith(`${tier.name}/`));
    if (args.length === 0 || wanted.length > 0) results.push(await runTier(tier, wanted));
  }
  report(results);
}

/** The line without `--kubeconfig FILE`, which the fixtures find in the environment (test/support/cluster.ts). */
function takeKubeconfig(line: readonly string[]): readonly string[] {
  const index = line.indexOf('--kubeconfig');
  const file = line[index + 1];
  if (index < 0 || file === undefined) return line;
  process.env.AMBIT_TEST_KUBECONFIG = resolve(file);
  return line.toSpliced(index, 2);
}

async function runTier(tier: Tier, wanted: readonly string[]): Promise<TierResult> {
  const result: TierResult = { tier, passed: 0, failed: 0, skipped: 0, durationMs: 0 };
  const started = performance.now();
  print(styleText('bold', `\n${tier.name}: ${tier.about}`));
  const obstacle = tier.obstacle();
  if (obstacle !== undefined) skip(result, `tier ${tier.name}`, obstacle);
  else if (tier.preparation === undefined || (await prepare(result, tier.preparation))) await runWork(result, wanted);
  if (tier.cleanup !== undefined) await prepare(result, tier.cleanup);
  result.durationMs = performance.now() - started;
  return result;
}

/** False when it failed, which fails the tier. */
async function prepare(result: TierResult, preparation: TierCommand): Promise<boolean> {
  const end = await runProgram(preparation);
  if (end !== '') fail(result, preparation.name, end);
  return end === '';
}

async function runWork(result: TierResult, wanted: readonly string[]): Promise<void> {
  const { work } = result.tier;
  if (work.kind === 'commands') for (const command of work.commands) await runCommand(result, command);
  else await runFiles(result, work, wanted);
}

async function runFiles(
  result: TierResult,
  { folder, concurrency, timeLimitMs }: Extract<Tier['work'], { kind: 'files' }>,
  wanted: readonly string[],
): Promise<void> {
  const whole = wanted.length === 0 || wanted.includes(folder);
  const queue = globSync(`${folder}/**/*.test.ts`, { cwd: TEST_FOLDER })
    .filter((file) => whole || wanted.some((prefix) => file.startsWith(prefix)))
    .sort();
  if (queue.length === 0) skip(result, wanted.join(' ') || `tier ${folder}`, 'there is no such test file');
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      countFile(result, await runTestFile(TEST_FOLDER, file, timeLimitMs));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

function countFile(result: TierResult, { file, outcomes, durationMs }: FileResult): void {
  let failed = 0;
  for (const outcome of outcomes) {
    const where = `test/${file}: ${outcome.name}`;
    if (outcome.result === 'passed') result.passed++;
    else if (outcome.result === 'skipped') skip(result, where, outcome.reason ?? '');
    else {
      failed++;
      fail(result, where, outcome.reason ?? '');
    }
  }
  const passed = outcomes.filter((outcome) => outcome.result === 'passed').length;
  const verdict = failed > 0 ? styleText('red', 'FAIL') : styleText('green', 'ok  ');
  print(`  ${verdict} ${file.padEnd(48)} ${String(passed).padStart(4)} passed ${seconds(durationMs).padStart(8)}`);
}

async function runCommand(result: TierResult, command: TierCommand): Promise<void> {
  const started = performance.now();
  const end = await runProgram(command);
  if (end === '') result.passed++;
  else fail(result, command.name, end);
  const verdict = end === '' ? styleText('green', 'ok  ') : styleText('red', 'FAIL');
  print(`  ${verdict} ${command.name.padEnd(60)} ${seconds(performance.now() - started).padStart(8)}`);
}

/** What went wrong with the end of the output, or an empty string. */
async function runProgram({ command, timeLimitMs, live }: TierCommand): Promise<string> {
  const [program, ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', live ? 'inherit' : 'pipe', live ? 'inherit' : 'pipe'] });
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk));
  const limit = setTimeout(() => child.kill('SIGTERM'), timeLimitMs);
  const hardLimit = setTimeout(() => child.kill('SIGKILL'), timeLimitMs + 30_000);
  const end = await new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => resolve(code === 0 ? '' : `ended with ${signal ?? `exit code ${code}`}`));
  });
  clearTimeout(limit);
  clearTimeout(hardLimit);
  return end === '' ? '' : `${end}\n${Buffer.concat(chunks).toString('utf8').slice(-6000)}`;
}

function skip(result: TierResult, where: string, reason: string): void {
  if (CI) {
    fail(result, where, `skipped, which CI does not allow: ${reason}`);
    return;
  }
  result.skipped++;
  skips.push({ where, reason });
  print(styleText('yellow', `  SKIP ${where}: ${reason}`));
}

function fail(result: TierResult, where: string, reason: string): void {
  result.failed++;
  failures.push({ where, reason });
}

function report(results: readonly TierResult[]): void {
  if (failures.length > 0) print(styleText('bold', '\nfailures'));
  for (const { where, reason } of failures) {
    print(`${styleText('red', '  FAIL')} ${where}\n${reason.replace(/^/gm, '       ')}\n`);
  }
  print(styleText('bold', `\n${'tier'.padEnd(10)} passed  failed  skipped      time`));
  for (const { tier, passed, failed, skipped, durationMs } of results) {
    const cells = [pad(passed, 6), pad(failed, 8), pad(skipped, 9), seconds(durationMs).padStart(10)];
    print(`${tier.name.padEnd(10)} ${cells.join('')}`);
  }
  for (const { where, reason } of skips) print(styleText('yellow', `SKIP ${where}: ${reason}`));
  const sum = (pick: (result: TierResult) => number): number => results.reduce((total, r) => total + pick(r), 0);
  print(`\n${sum((r) => r.passed)} passed, ${sum((r) => r.failed)} failed`);
  if (sum((r) => r.failed) > 0) process.exitCode = 1;
}

function pad(value: number, width: number): string {
  return String(value).padStart(width);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
