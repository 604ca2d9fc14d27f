/** Credentials: kubeconfigs of every form, what is refused, and files that change. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AmbitError } from '../../../core/errors.ts';
import { findInClusterCredential } from '../../../kube/in-cluster.ts';
import { kubeconfigFiles, openKubeconfig } from '../../../kube/kubeconfig.ts';

interface Parts {
  readonly cluster?: object;
  readonly user?: object;
  readonly name?: string;
}

function folderOf(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-kubeconfig-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function write(folder: string, { cluster = {}, user = {}, name = 'a' }: Parts): string {
  const file = join(folder, `${name}.yaml`);
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': name,
    contexts: [{ name, context: { cluster: name, user: name } }],
    clusters: [{ name, cluster: { server: `https://${name}.example:6443/base/`, ...cluster } }],
    users: [{ name, user }],
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function refusal(files: readonly string[], context?: string): string {
  try {
    openKubeconfig(files, context);
  } catch (thrown) {
    assert.ok(thrown instanceof AmbitError && thrown.code === 'CONFIGURATION', String(thrown));
    return thrown.message;
  }
  return 'taken';
}

test('certificates and tokens stand in the file or beside it', async (context) => {
  const folder = folderOf(context);
  writeFileSync(join(folder, 'ca.pem'), 'CA\n');
  writeFileSync(join(folder, 'token'), 'T\n');
  const beside = openKubeconfig(
    [
      write(folder, {
        cluster: { 'certificate-authority': 'ca.pem', 'tls-server-name': 'x' },
        user: { tokenFile: 'token' },
      }),
    ],
    undefined,
  );
  assert.deepEqual([beside.server, beside.serverName], ['https://a.example:6443/base', 'x']);
  assert.deepEqual(await beside.current(), { ca: 'CA', cert: undefined, key: undefined, authorization: 'Bearer T' });
  const within = openKubeconfig(
    [
      write(folder, {
        cluster: { 'certificate-authority-data': base64('CA') },
        user: { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY') },
      }),
    ],
    undefined,
  );
  assert.deepEqual(await within.current(), { ca: 'CA', cert: 'CERT', key: 'KEY', authorization: undefined });
});

test('a token file is read again when it changed, and its last text counts while it cannot be read', async (context) => {
  const folder = folderOf(context);
  const token = join(folder, 'token');
  writeFileSync(token, 'one');
  const credential = openKubeconfig([write(folder, { user: { tokenFile: token } })], undefined);
  const authorization = async (): Promise<string | undefined> => (await credential.current()).authorization;
  assert.equal(await authorization(), 'Bearer one');
  writeFileSync(token, 'two!');
  credential.refused();
  assert.equal(await authorization(), 'Bearer two!');
  rmSync(token);
  credential.refused();
  assert.equal(await authorization(), 'Bearer two!');
  const nothing = openKubeconfig([write(folder, { user: { tokenFile: join(folder, 'none') } })], undefined);
  await assert.rejects(nothing.current(), /none cannot be used: ENOENT/);
});

test('of several files the first entry of a name counts, and any context can be named', async (context) => {
  const folder = folderOf(context);
  const one = write(folder, { name: 'a', user: { token: 'one' } });
  const two = write(folder, { name: 'b', user: { token: 'two' } });
  assert.equal(openKubeconfig([one, two], undefined).server, 'https://a.example:6443/base');
  assert.equal((await openKubeconfig([one, two], 'b').current()).authorization, 'Bearer two');
  assert.deepEqual(kubeconfigFiles(undefined, { KUBECONFIG: `${one}:${two}` }), [one, two]);
  assert.deepEqual(kubeconfigFiles('x', { KUBECONFIG: one }), ['x']);
  assert.match(refusal([one, two], 'c'), /has no context "c"; it has: a, b/);
});

test('what would weaken the connection is refused with the way out', (context) => {
  const folder = folderOf(context);
  const refused = (cluster: object): string => refusal([write(folder, { cluster })]);
  assert.match(refused({ 'insecure-skip-tls-verify': true }), /not supported: name the root/);
  assert.match(refused({ server: 'http://a.example' }), /must begin with https/);
  assert.match(refused({ server: 'a b' }), /is not a URL/);
  assert.match(refused({ 'proxy-url': 'http://p' }), /proxy-url is not supported/);
  assert.match(refused({ server: 7 }), /clusters\.0\.cluster\.server must be a string/);
  assert.match(refusal([join(folder, 'absent')]), /absent cannot be read: ENOENT/);
  writeFileSync(join(folder, 'broken'), 'a: [');
  assert.match(refusal([join(folder, 'broken')]), /broken cannot be read/);
});

test('a user whose token comes from a program goes through the Kubernetes client', async (context) => {
  const folder = folderOf(context);
  const program = join(folder, 'program');
  const answer = { apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status: { token: 'told' } };
  writeFileSync(program, `#!/bin/sh\necho '${JSON.stringify(answer)}'\n`);
  chmodSync(program, 0o755);
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: program, interactiveMode: 'Never' };
  const credential = openKubeconfig(
    [write(folder, { cluster: { 'certificate-authority-data': base64('CA') }, user: { exec } })],
    undefined,
  );
  const state = await credential.current();
  assert.deepEqual([state.ca, state.authorization], ['CA', 'Bearer told']);
  rmSync(program);
  credential.refused();
  await assert.rejects(credential.current(), /credential plug-in of a failed/);
});

test('the credential of a pod is found by its environment and its files', async (context) => {
  const folder = folderOf(context);
  const environment = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' };
  assert.equal(findInClusterCredential(environment, folder), undefined, 'without a token it is no pod');
  writeFileSync(join(folder, 'token'), 'T');
  writeFileSync(join(folder, 'ca.crt'), 'CA');
  const credential = findInClusterCredential(environment, folder);
  assert.equal(credential?.server, 'https://[fd00::1]:6443');
  assert.equal((await credential?.current())?.authorization, 'Bearer T');
  assert.equal(findInClusterCredential({}, folder), undefined);
});
