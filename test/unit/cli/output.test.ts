/** How commands print: tables, units, failures, and that every command can speak JSON. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Command } from 'commander';
import { buildProgram } from '../../../cli/main.ts';
import { formatBytes, formatDuration, renderTable } from '../../../cli/output.ts';

const LAUNCHER = new URL('../../../cli/ambit', import.meta.url).pathname;

test('table columns line up and numbers stand to the right', () => {
  const table = renderTable(
    ['NAME', 'COUNT'],
    [
      ['a', 1],
      ['longer', 1000],
    ],
  );
  assert.equal(table, ['NAME    COUNT', 'a           1', 'longer   1000'].join('\n'));
});

test('a table without rows is its titles', () => {
  assert.equal(renderTable(['A', 'B'], []), 'A  B');
});

test('bytes and spans carry a unit', () => {
  assert.deepEqual([0, 1023, 1024, 1_500_000, 5 * 1024 ** 3].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.00 KiB',
    '1.43 MiB',
    '5.00 GiB',
  ]);
  assert.deepEqual([0, 999, 1500, 119_000, 600_000, 36_000_000].map(formatDuration), [
    '0 ms',
    '999 ms',
    '1.5 s',
    '119.0 s',
    '10 min',
    '10.0 h',
  ]);
});

test('every command has a description, and those that answer have -o', () => {
  const leaves = (command: Command): Command[] =>
    command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
  for (const command of leaves(buildProgram())) {
    assert.notEqual(command.description(), '', command.name());
    // agent and control become the deployable itself.
    if (['agent', 'control'].includes(command.name())) continue;
    assert.ok(
      command.options.some((option) => option.long === '--output'),
      `${command.name()} has -o`,
    );
  }
});

test('version answers in both formats through the launcher', () => {
  const text = spawnSync(LAUNCHER, ['version'], { encoding: 'utf8' });
  assert.match(text.stdout, /^ambit +0\./m);
  const json: unknown = JSON.parse(spawnSync(LAUNCHER, ['version', '-o', 'json'], { encoding: 'utf8' }).stdout);
  assert.ok(typeof json === 'object' && json !== null && 'node' in json && String(json.node).startsWith('26.'));
});

test('a failure says what, why and the next thing to type, as text and as JSON', () => {
  const env = { ...process.env, AMBIT_SANDBOX: 'none-of-that-name' };
  const text = spawnSync(LAUNCHER, ['sandbox', 'status'], { encoding: 'utf8', env });
  assert.equal(text.status, 1);
  assert.match(text.stderr, /no sandbox is running.*\[NO_SANDBOX\]\nnext: .*npm run sandbox/);
  const json = spawnSync(LAUNCHER, ['sandbox', 'status', '-o', 'json'], { encoding: 'utf8', env });
  const parsed: unknown = JSON.parse(json.stderr);
  assert.ok(typeof parsed === 'object' && parsed !== null && 'error' in parsed);
});

test('an agent that does not answer is named', () => {
  const result = spawnSync(LAUNCHER, ['connections', '--admin', '127.0.0.1:1'], { encoding: 'utf8' });
  assert.equal(result.status, 1);
  assert.match(result.stderr, /no agent answers on 127\.0\.0\.1:1.*\nnext: /);
});

test('a command whose reader leaves ends like Ctrl-C and says nothing', async () => {
  const output = new URL('../../../cli/output.ts', import.meta.url).href;
  const script = `import { endWhenReaderLeaves } from '${output}';
    endWhenReaderLeaves();
    const writing = setInterval(() => process.stdout.write('line\\n'.repeat(100)), 1);
    process.once('SIGINT', () => { clearInterval(writing); process.exitCode = 7; });`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const errors: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  child.stdout.once('data', () => child.stdout.destroy());
  const [code] = await once(child, 'close', { signal: AbortSignal.timeout(10_000) });
  assert.equal(code, 7);
  assert.equal(Buffer.concat(errors).toString(), '');
});
