/** A control plane whose API server does not answer: it waits, says for what, and ends in order when it is told to. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/own-processes.ts';
import { createAuthority } from '../support/pki.ts';

const MAIN = join(import.meta.dirname, '../../control/main.ts');
const START_TIMEOUT_MS = 20_000;

test('it is not ready and names the server, and SIGTERM ends it at once and without complaint', async (context) => {
  const [nobody, statusPort] = [await freePort(), await freePort()];
  const kubeconfig = join(temporaryFolder(context), 'kubeconfig');
  const cluster = {
    server: `https://127.0.0.1:${nobody}`,
    'certificate-authority-data': Buffer.from(createAuthority().pem).toString('base64'),
  };
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { token: 'a-token' } }],
    }),
    { mode: 0o600 },
  );
  const args = ['--source', 'kubernetes', '--kubeconfig', kubeconfig, '--listen', '127.0.0.1:0'];
  const child = spawn(process.execPath, [MAIN, ...args, '--status-listen', `127.0.0.1:${statusPort}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  context.after(() => child.kill('SIGKILL'));
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log += chunk.toString('utf8');
  });
  await eventually(
    'readiness names what it waits for',
    async () => {
      const response = await fetch(`http://127.0.0.1:${statusPort}/healthz/ready`);
      assert.equal(response.status, 503);
      const text = await response.text();
      assert.match(text, new RegExp(`certificate authority \\(.*127\\.0\\.0\\.1:${nobody}`));
      assert.match(text, /source \(/);
      assert.match(text, /listener/);
    },
    START_TIMEOUT_MS,
  );
  assert.equal((await fetch(`http://127.0.0.1:${statusPort}/healthz/live`)).status, 200);
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null], log);
  assert.doesNotMatch(log, /cannot run|a-token/);
});
