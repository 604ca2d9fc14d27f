/** `--check` is worth something only if it turns red when a piece of the mesh is broken. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { suite, test } from 'node:test';
import { REGISTRY_DIRECTORY } from '../../sandbox/layout.ts';
import { compareHostStates, readHostState } from '../../sandbox/leftovers.ts';
import { type Breakage, BrokenCopy } from '../support/broken-copy.ts';
import { awaitGone, namespacesOf, SandboxProcess } from '../support/sandbox-run.ts';

interface CheckRun {
  readonly exit: unknown;
  readonly output: string;
  /** By name: whether the row held. */
  readonly rows: ReadonlyMap<string, boolean>;
}

/** Runs the check of the copy to its end, and looks for what it left behind. */
async function runCheckOf(breakage: Breakage): Promise<CheckRun> {
  const before = await readHostState();
  using copy = new BrokenCopy(breakage);
  await using sandbox = new SandboxProcess(['--check'], copy.launcher);
  await sandbox.awaitOutput('[ok] pods');
  const run = await sandbox.run();
  const namespaces = namespacesOf(run);
  const exit = await sandbox.exit();
  await awaitGone(namespaces);
  assert.equal(existsSync(`${REGISTRY_DIRECTORY}/${run.id}`), false);
  assert.deepEqual(compareHostStates(before, await readHostState()), []);
  const rows = sandbox.output.matchAll(/^ {2}(ok {2}|FAIL) {2}([a-z]+\.[a-z-]+) /gm);
  return { exit, output: sandbox.output, rows: new Map([...rows].map(([, mark, id = '']) => [id, mark !== 'FAIL'])) };
}

/** The rows must have come out as said; rows that are not named may be either. */
function assertRows(run: CheckRun, expected: Readonly<Record<string, 'red' | 'green'>>): void {
  assert.equal(run.exit, 2, run.output);
  for (const [id, color] of Object.entries(expected)) {
    assert.equal(run.rows.get(id), color === 'green', `${id} is not ${color}:\n${run.output}`);
  }
}

suite('the check turns red', { concurrency: true }, () => {
  test('when a DENY policy that matches denies nothing', async () => {
    const run = await runCheckOf({
      file: 'agent/route/authorize.ts',
      text: 'if (denial !== undefined)',
      replacement: 'if (false)',
    });
    assertRows(run, { 'http.across-nodes': 'green', 'policy.deny': 'red', 'end.nothing-left': 'green' });
  });

  test('when the server behind a tunnel does not see the address of the client', async () => {
    const run = await runCheckOf({
      file: 'agent/dataplane/inbound.ts',
      text: 'from: this.#request.remote.ip, ',
      replacement: '',
    });
    const tunnel = { 'http.across-nodes': 'red', 'tcp.across-nodes': 'red' } as const;
    assertRows(run, { ...tunnel, 'http.one-node': 'green', 'end.nothing-left': 'green' });
  });
});
