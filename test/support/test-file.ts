/**
 * Runs one test file in a process group of its own and collects what its tests said. A file that does not end by
 * itself (a leaked socket, timer or child) is cut at the time limit, with everything it started, and counts as failed.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestOutcome } from './event-reporter.ts';

export interface FileResult {
  /** Path below `test/`. */
  readonly file: string;
  readonly durationMs: number;
  readonly outcomes: readonly TestOutcome[];
}

/** Output of a failed file that is shown, in characters from its end. */
const SHOWN_OUTPUT = 6000;
const REPORTER = join(import.meta.dirname, 'event-reporter.ts');

/** Always resolves; failures of the process itself become a failed outcome. */
export async function runTestFile(testFolder: string, file: string, timeLimitMs: number): Promise<FileResult> {
  const folder = await mkdtemp(join(tmpdir(), 'ambit-test-'));
  const events = join(folder, 'events');
  const started = performance.now();
  try {
    const end = await runProcess(join(testFolder, file), events, timeLimitMs);
    const outcomes = await readOutcomes(events);
    const problem = problemOf(end, outcomes, timeLimitMs);
    const durationMs = performance.now() - started;
    if (problem !== undefined) {
      outcomes.push({ result: 'failed', name: '(the file itself)', durationMs, reason: problem + tail(end.output) });
    }
    return { file, durationMs, outcomes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface ProcessEnd {
  readonly exit: string;
  readonly failed: boolean;
  readonly timedOut: boolean;
  readonly output: string;
}

function runProcess(path: string, events: string, timeLimitMs: number): Promise<ProcessEnd> {
  const { promise, resolve } = Promise.withResolvers<ProcessEnd>();
  const descriptor = openSync(events, 'w');
  const child = spawn(process.execPath, [`--test-reporter=${REPORTER}`, path], {
    detached: true,
    // The fourth is EVENTS_DESCRIPTOR of the reporter.
    stdio: ['ignore', 'pipe', 'pipe', descriptor],
  });
  closeSync(descriptor);
  let output = '';
  let timedOut = false;
  const keep = (chunk: string): void => {
    output = (output + chunk).slice(-SHOWN_OUTPUT);
  };
  child.stdout?.setEncoding('utf8').on('data', keep);
  child.stderr?.setEncoding('utf8').on('data', keep);
  const limit = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, timeLimitMs);
  child.on('error', (error) => {
    clearTimeout(limit);
    resolve({ exit: error.message, failed: true, timedOut, output });
  });
  child.on('exit', (code, signal) => {
    clearTimeout(limit);
    // Whatever the file started and left behind ends here; its pipes would keep this process waiting otherwise.
    const left = killGroup(child.pid);
    if (left) output += '\n(processes the file had left running were ended)';
    child.stdout?.destroy();
    child.stderr?.destroy();
    resolve({ exit: signal ?? `exit code ${code}`, failed: code !== 0, timedOut, output });
  });
  return promise;
}

/** True when the group still had a process. */
function killGroup(leader: number | undefined): boolean {
  if (leader === undefined) return false;
  try {
    process.kill(-leader, 'SIGKILL');
    return true;
  } catch {
    return false;
  }
}

async function readOutcomes(path: string): Promise<TestOutcome[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const complete = text.slice(0, text.lastIndexOf('\n') + 1);
  return complete
    .split('\n')
    .filter((line) => line !== '')
    .map((line): TestOutcome => JSON.parse(line));
}

function problemOf(end: ProcessEnd, outcomes: readonly TestOutcome[], timeLimitMs: number): string | undefined {
  if (end.timedOut) return `did not end within ${timeLimitMs / 1000} s and was killed`;
  if (end.failed && !outcomes.some((outcome) => outcome.result === 'failed')) return `ended with ${end.exit}`;
  if (outcomes.length === 0) return 'has no test';
  return undefined;
}

function tail(output: string): string {
  return output.trim() === '' ? '' : `\n${output.trimEnd()}`;
}
