/** The control plane as a process: configuration mistakes, readiness, restart with the same roots, orderly end. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { AggregatedDiscoveryService } from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { ADDRESS_TYPE } from '../../control/discovery/resource.ts';
import { mintAgentToken } from '../../control/tokens.ts';
import { openBidiStream, openTlsClient } from '../../core/grpc.ts';
import { AGENT, bearer, TestStream, temporaryFolder } from '../support/control.ts';

const MAIN = join(import.meta.dirname, '../../control/main.ts');

class Process {
  readonly child: ChildProcess;
  text = '';
  readonly exited: Promise<number | null>;
  #waiter: (() => void) | undefined;

  constructor(context: TestContext, args: readonly string[]) {
    this.child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH },
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.text += bytes.toString();
        this.#waiter?.();
      });
    }
    this.exited = once(this.child, 'close').then(([code]) => code);
    context.after(() => this.child.kill('SIGKILL'));
  }

  /** The first log line with this message. */
  async line(message: string): Promise<Record<string, unknown>> {
    const deadline = AbortSignal.timeout(8000);
    for (;;) {
      const found = this.text.split('\n').find((line) => line.includes(`"msg":"${message}"`));
      if (found !== undefined) return JSON.parse(found);
      if (deadline.aborted || this.child.exitCode !== null) throw new Error(`no line ${message} in:\n${this.text}`);
      await new Promise<void>((resolve) => {
        this.#waiter = resolve;
        deadline.addEventListener('abort', () => resolve(), { once: true });
        this.child.once('close', () => resolve());
      });
    }
  }
}

function folders(context: TestContext): { config: string; state: string; args: string[] } {
  const folder = temporaryFolder(context);
  const config = join(folder, 'config');
  const state = join(folder, 'state');
  mkdirSync(config);
  const args = [
    '--config-dir',
    config,
    '--state-dir',
    state,
    '--listen',
    '127.0.0.1:0',
    '--status-listen',
    '127.0.0.1:0',
  ];
  return { config, state, args };
}

test('it serves, tells clients when it stops, keeps and rotates its roots, and writes no key into its log', async (context) => {
  const { config, state, args } = folders(context);
  writeFileSync(join(config, 'a.yaml'), 'apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n');
  const first = new Process(context, args);
  const serving = await first.line('control plane serving');
  const roots = readFileSync(join(state, 'root-cert.pem'), 'utf8');
  const ready = await fetch(`http://127.0.0.1:${serving.statusPort}/healthz/ready`);
  assert.deepEqual([ready.status, await ready.text()], [200, 'ready\n']);

  const client = openTlsClient({ address: String(serving.address), rootsPem: roots });
  context.after(() => client.close());
  const token = await mintAgentToken(join(state, 'token-key.pem'), { ...AGENT, node: 'node-a' }, 60_000);
  const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
  const stream = new TestStream(openBidiStream(client, deltaAggregatedResources, bearer(token)));
  stream.send({ typeUrl: ADDRESS_TYPE });
  await stream.nextAcknowledged();
  first.child.kill('SIGTERM');
  assert.deepEqual(await stream.ended, { code: status.UNAVAILABLE, details: 'the control plane is stopping' });
  assert.equal(await first.exited, 0);
  assert.doesNotMatch(first.text, /PRIVATE KEY/);
  assert.ok(!first.text.includes(token));

  const second = new Process(context, args);
  await second.line('control plane serving');
  assert.equal(readFileSync(join(state, 'root-cert.pem'), 'utf8'), roots);
  second.child.kill('SIGUSR2');
  await second.line('root created');
  const bundle = readFileSync(join(state, 'root-cert.pem'), 'utf8');
  assert.ok(bundle.startsWith(roots) && bundle.length > 1.9 * roots.length, 'the successor is in the bundle');
  second.child.kill('SIGINT');
  assert.equal(await second.exited, 0);
});

test('every mistake of the configuration is named at once', async (context) => {
  const process = new Process(context, [
    '--listen',
    'here',
    '--max-cert-ttl',
    'long',
    '--colour',
    '--state-dir',
    '/tmp/x',
  ]);
  assert.equal(await process.exited, 1);
  const { reason } = await lineOf(process.text);
  for (const expected of [
    '--config-dir',
    '--listen must be ip:port',
    '--max-cert-ttl must be a duration',
    '"--colour" is not an option',
  ]) {
    assert.ok(String(reason).includes(expected), `${expected} in ${reason}`);
  }
});

test('a folder that is not there and a port in use end the start with the reason', async (context) => {
  const { state, args } = folders(context);
  const missing = new Process(context, ['--config-dir', '/nonexistent', '--state-dir', state]);
  assert.equal(await missing.exited, 1);
  assert.match(missing.text, /configuration folder cannot be read/);
  const first = new Process(context, args);
  const { address } = await first.line('control plane serving');
  const second = new Process(context, [...folders(context).args, '--listen', String(address)]);
  assert.equal(await second.exited, 1);
  assert.match(second.text, /cannot listen on 127\.0\.0\.1/);
});

test('the help names every option', async (context) => {
  const help = new Process(context, ['--help']);
  assert.equal(await help.exited, 0);
  for (const flag of ['--config-dir', '--state-dir', '--listen', '--trusted-node-accounts', '--termination-grace']) {
    assert.ok(help.text.includes(flag));
  }
});

async function lineOf(text: string): Promise<Record<string, unknown>> {
  const line = text.split('\n').find((candidate) => candidate.includes('"level":"fatal"'));
  if (line === undefined) throw new Error(`no fatal line in ${text}`);
  return JSON.parse(line);
}
