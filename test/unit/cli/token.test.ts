/** `ambit token`: what it prints is believed by the control plane; it never makes a key nobody would believe. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openTokenKey, TokenAuthenticator } from '../../../control/tokens.ts';
import { bearer, temporaryFolder } from '../../support/control.ts';

const LAUNCHER = join(import.meta.dirname, '../../../cli/ambit');
const run = (...args: string[]) => spawnSync(LAUNCHER, ['token', ...args], { encoding: 'utf8' });

test('a token names its account and node, as text and as JSON', async (context) => {
  const path = join(temporaryFolder(context), 'key.pem');
  const authenticator = new TokenAuthenticator(openTokenKey(path));
  const agent = await authenticator.authenticate(bearer(run('--key', path, '--node', 'node-a').stdout.trim()));
  assert.deepEqual([agent.namespace, agent.serviceAccount, agent.node], ['istio-system', 'ambit-agent', 'node-a']);
  const answer = JSON.parse(run('--key', path, '--account', 'shop/web', '--hours', '0.5', '-o', 'json').stdout);
  const workload = await authenticator.authenticate(bearer(answer.token));
  assert.deepEqual([workload.namespace, workload.serviceAccount, workload.node], ['shop', 'web', undefined]);
  assert.ok(Math.abs(workload.expiresMs - Date.parse(answer.expires)) < 2000);
});

test('a key that is not there, and options that make no sense, are refused', (context) => {
  const path = join(temporaryFolder(context), 'key.pem');
  const missing = run('--key', path);
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /there is no token key at .*\[CONFIGURATION\]/);
  assert.equal(existsSync(path), false);
  for (const wrong of [
    ['--account', 'web'],
    ['--hours', '0'],
    ['--hours', 'x'],
  ])
    assert.equal(run('--key', path, ...wrong).status, 1);
});
