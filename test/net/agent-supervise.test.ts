/** The first process of the agent's container: what it starts again, what it lets go, and where signals end up. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { eventually } from '../support/eventually.ts';

const SUPERVISE = join(import.meta.dirname, '..', '..', 'agent', 'supervise');

interface Supervised {
  readonly process: ChildProcess;
  readonly exited: Promise<number | null>;
  /** Process ids of the command, oldest first. */
  lives(): number[];
}

/** Supervises a shell that does `first`, writes its process id down and then does what `body` says. */
function supervise(context: TestContext, body: string, first = ':'): Supervised {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-supervise-'));
  const journal = join(folder, 'lives');
  const child = spawn(SUPERVISE, ['/bin/sh', '-c', `${first}; echo $$ >>${journal}; ${body}`], { stdio: 'ignore' });
  const exited = once(child, 'exit').then(([code]: (number | null)[]) => code ?? null);
  context.after(async () => {
    child.kill('SIGTERM');
    await exited;
    rmSync(folder, { recursive: true });
  });
  const lives = (): number[] => {
    try {
      return readFileSync(journal, 'utf8').trim().split('\n').map(Number);
    } catch {
      return [];
    }
  };
  return { process: child, exited, lives };
}

test('a command that is killed is started again, twice in a row', async (context) => {
  const { lives } = supervise(context, 'exec sleep 600');
  for (let life = 1; life <= 3; life++) {
    await eventually(`life ${life}`, () => assert.equal(lives().length, life));
    const pid = lives().at(-1);
    if (life < 3 && pid !== undefined) process.kill(pid, 'SIGKILL');
  }
});

test('a command that cannot start ends the container with its code', async (context) => {
  const { exited, lives } = supervise(context, 'exit 78');
  assert.equal(await exited, 78);
  assert.equal(lives().length, 1);
});

test('an orderly end is the end', async (context) => {
  const { exited, lives } = supervise(context, 'exit 0');
  assert.equal(await exited, 0);
  assert.equal(lives().length, 1);
});

test('SIGTERM goes to the command, which may take its time, and its code is the answer', async (context) => {
  const trap = 'trap "sleep 0.2; exit 7" TERM';
  const { process: supervisor, exited, lives } = supervise(context, 'while :; do sleep 0.05; done', trap);
  await eventually('it lives', () => assert.equal(lives().length, 1));
  supervisor.kill('SIGTERM');
  assert.equal(await exited, 7);
  assert.equal(lives().length, 1);
});

test('a command that is killed while the container ends stays dead', async (context) => {
  const { process: supervisor, exited, lives } = supervise(context, 'while :; do sleep 0.05; done', 'trap "" TERM');
  await eventually('it lives', () => assert.equal(lives().length, 1));
  supervisor.kill('SIGTERM');
  const [pid = 0] = lives();
  process.kill(pid, 'SIGKILL');
  assert.notEqual(await exited, 0);
  assert.equal(lives().length, 1);
});
