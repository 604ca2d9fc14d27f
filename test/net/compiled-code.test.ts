/** Compiled code is kept although the process is killed, of every thread that asked for it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const KEEP = `import { keepCompiledCode } from ${JSON.stringify(import.meta.resolve('../../core/compiled-code.ts'))};`;

test('compiled code outlives a process that is killed', (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-code-'));
  context.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'worker.mjs'), `${KEEP} keepCompiledCode();`);
  writeFileSync(
    join(folder, 'main.mjs'),
    `${KEEP} import { Worker } from 'node:worker_threads';
     new Worker(new URL('worker.mjs', import.meta.url)).on('exit', () => {
       keepCompiledCode();
       process.kill(process.pid, 'SIGKILL');
     });`,
  );
  const cache = join(folder, 'cache');
  const run = spawnSync(process.execPath, [join(folder, 'main.mjs')], {
    env: { ...process.env, NODE_COMPILE_CACHE: cache },
  });
  assert.equal(run.signal, 'SIGKILL');
  // One file each for the two programs and what they share.
  assert.ok(readdirSync(cache, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length >= 3);
});
