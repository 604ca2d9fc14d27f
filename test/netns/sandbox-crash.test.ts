/** A sandbox whose processes are killed leaves at most its record, and the next run removes that. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { REGISTRY_DIRECTORY } from '../../sandbox/layout.ts';
import { removeAbandonedRuns } from '../../sandbox/registry.ts';
import { awaitGone, isWorldAlive, namespacesOf, SandboxProcess } from '../support/sandbox-run.ts';

const UP = 'Ctrl-C removes everything';

test('kill -9 of the command ends every process and namespace; the record goes with the next run', async () => {
  await using sandbox = new SandboxProcess();
  await sandbox.awaitOutput(UP);
  const run = await sandbox.run();
  const namespaces = namespacesOf(run);
  sandbox.signal('SIGKILL');
  assert.equal(await sandbox.exit(), 'SIGKILL');
  await awaitGone(namespaces);
  assert.equal(await isWorldAlive(run), false);
  const record = `${REGISTRY_DIRECTORY}/${run.id}`;
  assert.equal(existsSync(record), true);
  assert.ok((await removeAbandonedRuns()).includes(run.id));
  assert.equal(existsSync(record), false);
});

test('kill -9 of the first process inside is a failure that cleans up after itself', async () => {
  await using sandbox = new SandboxProcess();
  await sandbox.awaitOutput(UP);
  const run = await sandbox.run();
  const namespaces = namespacesOf(run);
  process.kill(run.world.pid, 'SIGKILL');
  assert.notEqual(await sandbox.exit(), 0);
  await awaitGone(namespaces);
  assert.equal(existsSync(`${REGISTRY_DIRECTORY}/${run.id}`), false);
});

test('a live run is not taken for an abandoned one', async () => {
  await using sandbox = new SandboxProcess();
  await sandbox.awaitOutput('[ok] nodes');
  const run = await sandbox.run();
  assert.ok(!(await removeAbandonedRuns()).includes(run.id));
  assert.equal(await isWorldAlive(run), true);
  sandbox.signal('SIGTERM');
  await sandbox.exit();
});
