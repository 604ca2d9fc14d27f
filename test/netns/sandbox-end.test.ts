/** However a sandbox ends, nothing of it stays on the host. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { REGISTRY_DIRECTORY } from '../../sandbox/layout.ts';
import { compareHostStates, readHostState } from '../../sandbox/leftovers.ts';
import { awaitGone, namespacesOf, SandboxProcess } from '../support/sandbox-run.ts';

const UP = 'Ctrl-C removes everything';

test('a sandbox that is interrupted takes everything with it and leaves the host as it was', async () => {
  const before = await readHostState();
  await using sandbox = new SandboxProcess();
  await sandbox.awaitOutput(UP);
  const run = await sandbox.run();
  const namespaces = namespacesOf(run);
  // Two nodes and five pods, beside the world's own four.
  assert.equal(namespaces.length, 11);
  sandbox.signal('SIGINT');
  assert.equal(await sandbox.exit(), 0, sandbox.output);
  await awaitGone(namespaces);
  assert.equal(existsSync(`${REGISTRY_DIRECTORY}/${run.id}`), false);
  assert.deepEqual(compareHostStates(before, await readHostState()), []);
});

test('an interrupt in the middle of the start ends it in order', async () => {
  await using sandbox = new SandboxProcess();
  await sandbox.awaitOutput('[ok] control');
  const namespaces = namespacesOf(await sandbox.run());
  sandbox.signal('SIGTERM');
  assert.equal(await sandbox.exit(), 130, sandbox.output);
  await awaitGone(namespaces);
});
