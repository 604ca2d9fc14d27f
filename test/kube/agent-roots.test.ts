/** An agent that starts before its control plane: the roots come from the API server until kubelet has mounted them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readRoots } from '../../agent/state/control-channel.ts';
import { RootConfigMap } from '../../agent/state/root-config-map.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';

const NAMESPACE = 'istio-system';
const NAME = 'istio-ca-root-cert';
const folder = mkdtempSync(join(tmpdir(), 'ambit-roots-'));
let api: KubeApi;

before(async () => {
  api = await openKubeApi({ crds: false });
  await api.namespace(NAMESPACE);
});
after(async () => {
  rmSync(folder, { recursive: true });
  await api[Symbol.asyncDispose]();
});

function asker(kubeconfig = api.kubeconfig): () => Promise<string> {
  const roots = new RootConfigMap({ kubeconfig, namespace: NAMESPACE, name: NAME });
  return () => roots.read();
}

test('roots are asked for until there are some, and read from the file from the moment on that it exists', async () => {
  const rootCaFile = join(folder, 'root-cert.pem');
  const endpoint = { address: 'control:15012', rootCaFile, askForRoots: asker() };
  const missing = { code: 'CONFIGURATION', message: /no roots yet in ConfigMap istio-system\/istio-ca-root-cert/ };
  await assert.rejects(readRoots(endpoint), missing);
  const configMap = (data: Record<string, string>) => ({ metadata: { name: NAME }, data });
  await api.admin().create(RESOURCES.ConfigMap, NAMESPACE, configMap({ 'root-cert.pem': '' }));
  await assert.rejects(readRoots(endpoint), missing);
  await api.admin().mergePatch(RESOURCES.ConfigMap, NAMESPACE, NAME, configMap({ 'root-cert.pem': 'of the cluster' }));
  assert.equal(await readRoots(endpoint), 'of the cluster');
  writeFileSync(rootCaFile, 'of the file');
  assert.equal(await readRoots(endpoint), 'of the file');
});

test('who may not read the roots is told so', async () => {
  await assert.rejects(asker(api.userKubeconfig({ user: 'nobody' }))(), { code: 'KUBERNETES_API', message: /403/ });
});

test('one answer serves the requests of the next seconds', async () => {
  const ask = asker();
  const pem = await ask();
  await api.admin().delete(RESOURCES.ConfigMap, NAMESPACE, NAME);
  assert.equal(await ask(), pem);
});
