/** What a cluster is told of its CA: ConfigMaps in every namespace, a ClusterTrustBundle, and that they are repaired. */
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { type CaMaterial, ChangeListeners, type RootStore } from '../../control/ca/root-store.ts';
import { TrustBundleTask } from '../../control/ca/trust-bundle-task.ts';
import { TRUST_BUNDLE_NAME } from '../../control/ca/trust-distribution.ts';
import { TrustDistributor } from '../../control/ca/trust-distributor.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { textAt } from '../support/kube-api-call.ts';
import { outsideRoot, revocationList } from '../support/plugged-ca.ts';

const [first, second] = [outsideRoot('first'), outsideRoot('second')];
let api: KubeApi;

before(async () => {
  api = await openKubeApi({ crds: false });
  for (const name of ['istio-system', 'shop', 'local-path-storage']) await api.namespace(name);
});

after(async () => {
  await api[Symbol.asyncDispose]();
});

/** A store whose material the test sets. */
class SetStore implements RootStore {
  readonly description = 'a store of the test';
  readonly problem = undefined;
  readonly rotating = undefined;
  readonly #listeners = new ChangeListeners();
  material: CaMaterial;

  constructor(rootsPem: string) {
    this.material = { signers: [], rootsPem, crlPem: undefined };
  }

  set(material: Partial<CaMaterial>): void {
    this.material = { ...this.material, ...material };
    this.#listeners.tell();
  }

  async open(): Promise<void> {}
  async close(): Promise<void> {}
  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }
}

function distribute(context: TestContext, store: RootStore): TrustDistributor {
  const task = new TrustDistributor(api.admin(), store);
  context.after(() => task.stop());
  task.start();
  return task;
}

async function textIn(namespace: string, name = 'istio-ca-root-cert', key = 'root-cert.pem'): Promise<string> {
  return textAt(await api.admin().get(RESOURCES.ConfigMap, namespace, name), 'data', key);
}

const stands = (namespace: string, text: string): Promise<void> =>
  eventually(`${namespace} has the roots`, async () => assert.equal(await textIn(namespace), text));

test('every namespace gets the roots, new ones too, but those without pods of users', async (context) => {
  const store = new SetStore(first.certificatePem);
  const task = distribute(context, store);
  for (const namespace of ['default', 'kube-system', 'istio-system', 'shop'])
    await stands(namespace, first.certificatePem);
  await api.namespace('later');
  await stands('later', first.certificatePem);
  await eventually('all is done', () => assert.equal(task.length, 0));
  for (const namespace of ['kube-public', 'kube-node-lease', 'local-path-storage']) {
    assert.equal(await api.admin().find(RESOURCES.ConfigMap, namespace, 'istio-ca-root-cert'), undefined, namespace);
  }
  const map = await api.admin().get(RESOURCES.ConfigMap, 'shop', 'istio-ca-root-cert');
  assert.equal(textAt(map, 'metadata', 'labels', 'istio.io/config'), 'true');
  assert.deepEqual(task.failing(), []);
});

test('one that was edited, deleted or lost its label is written again; what others keep in it stays', async (context) => {
  distribute(context, new SetStore(first.certificatePem));
  await stands('shop', first.certificatePem);
  const patch = (body: unknown) => api.admin().mergePatch(RESOURCES.ConfigMap, 'shop', 'istio-ca-root-cert', body);
  await patch({ data: { 'root-cert.pem': 'nonsense', mine: 'kept' } });
  await stands('shop', first.certificatePem);
  assert.equal(await textIn('shop', 'istio-ca-root-cert', 'mine'), 'kept');
  await patch({ metadata: { labels: null } });
  await eventually('the label is back', async () => {
    const map = await api.admin().get(RESOURCES.ConfigMap, 'shop', 'istio-ca-root-cert');
    assert.equal(textAt(map, 'metadata', 'labels', 'istio.io/config'), 'true');
  });
  await api.admin().delete(RESOURCES.ConfigMap, 'shop', 'istio-ca-root-cert');
  await stands('shop', first.certificatePem);
});

test('when the roots change, every namespace has the new ones; revocation lists come when there are some', async (context) => {
  const store = new SetStore(first.certificatePem);
  distribute(context, store);
  await stands('shop', first.certificatePem);
  assert.equal(await api.admin().find(RESOURCES.ConfigMap, 'shop', 'istio-ca-crl'), undefined);
  const crlPem = revocationList(first, ['1234']);
  store.set({ rootsPem: first.certificatePem + second.certificatePem, crlPem });
  for (const namespace of ['default', 'shop']) {
    await stands(namespace, first.certificatePem + second.certificatePem);
    await eventually('the list', async () =>
      assert.equal(await textIn(namespace, 'istio-ca-crl', 'ca-crl.pem'), crlPem),
    );
  }
});

test('a leader that comes after another finds everything written and writes nothing', async (context) => {
  const store = new SetStore(first.certificatePem);
  const before = distribute(context, store);
  await stands('shop', first.certificatePem);
  await eventually('all is done', () => assert.equal(before.length, 0));
  await before.stop();
  const version = async (): Promise<string> =>
    (await api.admin().get(RESOURCES.ConfigMap, 'shop', 'istio-ca-root-cert')).metadata.resourceVersion;
  const known = await version();
  const next = distribute(context, store);
  await api.namespace('probe');
  await stands('probe', first.certificatePem);
  await eventually('all is done', () => assert.equal(next.length, 0));
  assert.equal(await version(), known);
  await api.admin().delete(RESOURCES.ConfigMap, 'shop', 'istio-ca-root-cert');
  await stands('shop', first.certificatePem);
});

test('the trust bundle of the cluster has the roots, also after it was edited', async (context) => {
  const store = new SetStore(first.certificatePem);
  const task = new TrustBundleTask(api.admin(), store, { checkMs: 100, absentMs: 100 });
  context.after(() => task.stop());
  task.start();
  const bundle = { ...RESOURCES.ClusterTrustBundle, version: 'v1beta1' };
  const standing = () => api.admin().get(bundle, '', TRUST_BUNDLE_NAME);
  const holds = (text: string) =>
    eventually('the bundle', async () => assert.equal(textAt(await standing(), 'spec', 'trustBundle'), text));
  await holds(first.certificatePem);
  assert.equal(textAt(await standing(), 'spec', 'signerName'), 'istio.io/istiod-ca');
  store.set({ rootsPem: first.certificatePem + second.certificatePem });
  await holds(first.certificatePem + second.certificatePem);
  await api.admin().mergePatch(bundle, '', TRUST_BUNDLE_NAME, { spec: { trustBundle: second.certificatePem } });
  await holds(first.certificatePem + second.certificatePem);
  await api.admin().delete(bundle, '', TRUST_BUNDLE_NAME);
  await holds(first.certificatePem + second.certificatePem);
});

test('an API server without trust bundles is left alone', async (context) => {
  await using old = await openKubeApi({
    crds: false,
    serverArgs: ['--feature-gates=ClusterTrustBundle=false', '--runtime-config='],
  });
  const task = new TrustBundleTask(old.admin(), new SetStore(first.certificatePem));
  context.after(() => task.stop());
  task.start();
  await eventually('it waits for the next look', () => assert.equal(task.length, 1));
  await eventually('without a failure', () => assert.deepEqual(task.failing(), []));
  await task.stop();
});
