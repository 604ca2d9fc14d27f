/** The webhook behind a real API server: what users are told, and what happens when it is away. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { ObjectStore } from '../../control/model/object-store.ts';
import { analyze } from '../../control/validation/analyze.ts';
import { collect } from '../../control/validation/collect.ts';
import {
  caBundlePatch,
  type FailurePolicy,
  WEBHOOK_CONFIGURATION_NAME,
  webhookConfiguration,
} from '../../control/webhook/configuration.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { objectsOf } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { KubeApiRefusal } from '../support/kube-api-call.ts';
import { openWebhook, type TestWebhook } from '../support/webhook.ts';

const WORLD = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
---
apiVersion: v1
kind: Pod
metadata: {name: stock-1, namespace: shop, labels: {app: stock}}
spec: {nodeName: a, serviceAccountName: stock, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: stock}, ports: [{port: 80, targetPort: 8080}]}
`;
const CONFIGURATIONS = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';
const GET_ONLY = {
  selector: { matchLabels: { app: 'stock' } },
  rules: [{ to: [{ operation: { methods: ['GET'] } }] }],
};
const GOOD = { rules: [{ from: [{ source: { namespaces: ['shop'] } }] }] };

let api: KubeApi;
let webhook: TestWebhook;

before(async () => {
  api = await openKubeApi();
  const store = new ObjectStore();
  store.apply({ upserted: objectsOf(WORLD), removed: [] });
  webhook = await openWebhook(store);
  await api.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  await api.namespace('istio-system');
});

after(async () => {
  await webhook?.server.stop();
  await api?.[Symbol.asyncDispose]();
});

function policiesPath(namespace: string): string {
  return `/apis/security.istio.io/v1/namespaces/${namespace}/authorizationpolicies`;
}

function create(name: string, spec: unknown, namespace = 'shop'): Promise<unknown> {
  const kind = 'AuthorizationPolicy';
  return api.call('POST', policiesPath(namespace), {
    apiVersion: 'security.istio.io/v1',
    kind,
    metadata: { name, namespace },
    spec,
  });
}

async function remove(name: string, namespace = 'shop'): Promise<void> {
  await api.call('DELETE', `${policiesPath(namespace)}/${name}`);
}

/** Why the API server refused; the policy must not exist then. */
async function refusalOf(name: string, spec: unknown): Promise<KubeApiRefusal> {
  try {
    await create(name, spec);
  } catch (thrown) {
    if (thrown instanceof KubeApiRefusal) return thrown;
    throw thrown;
  }
  await remove(name);
  throw new Error('the policy was accepted');
}

/** Registers the webhook; resolves when the API server asks it, or tries to. */
async function register(failurePolicy: FailurePolicy, url = webhook.url): Promise<void> {
  const options = { namespace: 'istio-system', target: { url }, caBundlePem: webhook.rootPem, failurePolicy };
  await api.call('DELETE', `${CONFIGURATIONS}/${WEBHOOK_CONFIGURATION_NAME}`).catch(() => undefined);
  await api.call('POST', CONFIGURATIONS, webhookConfiguration(options));
}

test('a policy that cannot work is refused with the whole reason, and one that works is not', async () => {
  await register('Fail');
  const refused = await eventually('the API server asks the webhook', () => refusalOf('get-only', GET_ONLY), 15_000);
  assert.match(
    refused.message,
    /admission webhook "validation\.ambit\.io" denied the request: AuthorizationPolicy shop\/get-only: rules\[0\]\.to\[0\]\.operation\.methods needs an L7 proxy, but shop\/stock has no waypoint; at L4 this ALLOW would deny everything\. .* AMB0107/,
  );
  assert.equal(refused.reason, 'Invalid');
  await create('good', GOOD);
  await remove('good');
});

test('what the schema lets through and nobody can read is refused with its field', async () => {
  const refused = await refusalOf('odd', { rules: [{ from: [{ source: { ipBlocks: ['10.0.0.300'] } }] }] });
  assert.match(refused.message, /ipBlocks\[0\] must be an IP address or a CIDR block.* AMB0101/);
});

test('with Fail, a webhook that is away is named in the refusal; the mesh namespace is not locked', async () => {
  await webhook.server.stop();
  const refused = await refusalOf('good', GOOD);
  assert.match(refused.message, /failed calling webhook "validation\.ambit\.io".*connect/);
  await create('repair', GOOD, 'istio-system');
  await remove('repair', 'istio-system');
});

test('with Ignore, a bad policy comes in while the webhook is away, and is flagged later', async () => {
  await register('Ignore');
  await eventually('the API server has the new configuration', () => create('get-only', GET_ONLY), 15_000);
  const { items } = await api.admin().list(RESOURCES.AuthorizationPolicy);
  const { view, findings } = collect(
    [...items, ...parseAllDocuments(WORLD).map((document): unknown => document.toJS())],
    true,
  );
  assert.deepEqual(findings, []);
  const codes = analyze(view).map(({ code, object }) => `${code} ${object}`);
  assert.ok(codes.includes('AMB0107 AuthorizationPolicy/shop/get-only'), codes.join());
});

test('a bad policy from before can be labelled and deleted, but not made worse', async () => {
  const store = new ObjectStore();
  store.apply({ upserted: objectsOf(WORLD), removed: [] });
  const port = webhook.server.port;
  webhook = await openWebhook(store, port);
  await register('Fail');
  await eventually('the API server asks the webhook', () => refusalOf('second', GET_ONLY), 15_000);
  const path = `${policiesPath('shop')}/get-only`;
  await api.call('PATCH', path, { metadata: { labels: { team: 'a' } } });
  await assert.rejects(api.call('PATCH', path, { spec: { action: 'DENY' } }), /AMB0108/);
  await api.call('DELETE', path);
});

test('the roots of the configuration are patched when they change', async () => {
  await api.call('DELETE', `${CONFIGURATIONS}/${WEBHOOK_CONFIGURATION_NAME}`);
  const options = { namespace: 'istio-system', target: { url: webhook.url }, failurePolicy: 'Fail' } as const;
  await api.call('POST', CONFIGURATIONS, webhookConfiguration(options));
  const client = api.admin();
  const { ValidatingWebhookConfiguration: resource } = RESOURCES;
  const patch = caBundlePatch(await client.get(resource, '', WEBHOOK_CONFIGURATION_NAME), webhook.rootPem);
  assert.ok(patch);
  await client.jsonPatch(resource, '', WEBHOOK_CONFIGURATION_NAME, patch);
  assert.equal(caBundlePatch(await client.get(resource, '', WEBHOOK_CONFIGURATION_NAME), webhook.rootPem), undefined);
  await eventually(
    'the API server asks with the new roots',
    async () => assert.match((await refusalOf('get-only', GET_ONLY)).message, /AMB0107/),
    15_000,
  );
});
