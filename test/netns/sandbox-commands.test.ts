/** The commands a newcomer is told to try, against a running sandbox. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SandboxProcess } from '../support/sandbox-run.ts';

test('status, exec, why, capture, kill and logs answer as promised', async () => {
  await using sandbox = new SandboxProcess();
  await sandbox.awaitOutput('Ctrl-C removes everything');

  const status = await sandbox.ambit('sandbox', 'status');
  assert.match(status.stdout, /shop\/frontend +a +10\.91\.1\.\d+ +running +in mesh/);
  assert.match(status.stdout, /legacy\/cron +a +10\.91\.1\.\d+ +running +outside/);

  const exec = await sandbox.ambit('sandbox', 'exec', 'frontend', '--', 'curl', '-s', 'http://catalog/items');
  assert.match(exec.stdout, /"pod":"catalog-v[12]"/);
  assert.equal((await sandbox.ambit('sandbox', 'exec', 'frontend', '--', 'sh', '-c', 'exit 7')).status, 7);

  const why = await sandbox.ambit('why', 'legacy/cron', 'shop/stock:8080');
  assert.match(why.stdout, /plaintext: the client is not captured[\s\S]*ALLOWED/);
  assert.match((await sandbox.ambit('why', 'frontend', 'catalog:80', '-o', 'json')).stdout, /"verdict": "allowed"/);

  const capture = await sandbox.ambit('sandbox', 'capture', '--seconds', '3');
  assert.match(capture.stdout, /> 10\.91\.\d\.\d+:15008 +\d+ B +TLS/);
  assert.match(capture.stdout, /PLAINTEXT +GET \/levels/);

  assert.match((await sandbox.ambit('connections', '-o', 'json')).stdout, /^\[/);

  assert.match((await sandbox.ambit('sandbox', 'kill', 'agent', 'a')).stdout, /agent a was killed/);
  const back = await sandbox.ambit(
    ...['sandbox', 'exec', 'frontend', '--', 'curl', '-s', '--retry', '20', '--retry-all-errors', '--retry-delay', '1'],
    'http://catalog/items',
  );
  assert.match(back.stdout, /"pod":"catalog-v[12]"/);
  assert.match(
    (await sandbox.ambit('sandbox', 'logs', 'agent', 'a')).stdout,
    /pods of the former run were taken up again/,
  );
  const wrong = await sandbox.ambit('sandbox', 'kill', 'agent', 'z');
  assert.match(wrong.stderr, /no node z; there are a, b/);

  sandbox.signal('SIGINT');
  assert.equal(await sandbox.exit(), 0, sandbox.output);
});
