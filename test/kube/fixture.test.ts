/** The API server of these tests is a real one: what the other files of the folder rely on. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi, TOKEN_ISSUER } from '../support/kube-api.ts';
import { KubeApiRefusal, textAt, valueAt } from '../support/kube-api-call.ts';

let api: KubeApi;

before(async () => {
  api = await openKubeApi({ crds: false, gatewayApi: true });
});

after(async () => {
  await api[Symbol.asyncDispose]();
});

describe('service account tokens', () => {
  before(async () => {
    await api.namespace('shop');
    await api.createServiceAccount('shop', 'cart');
    await api.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1' } });
    await api.call('POST', '/api/v1/namespaces/shop/pods', pod('cart-1', 'cart', 'node-1'));
  });

  test('of an audience of their own name the pod and its node when they are reviewed', async () => {
    const token = await api.serviceAccountToken('shop', 'cart', { audience: 'istio-ca', boundPod: 'cart-1' });
    const status = valueAt(await review(token, 'istio-ca'), 'status');
    assert.equal(valueAt(status, 'authenticated'), true, JSON.stringify(status));
    assert.equal(textAt(status, 'user', 'username'), 'system:serviceaccount:shop:cart');
    const extra = valueAt(status, 'user', 'extra');
    assert.deepEqual(valueAt(extra, 'authentication.kubernetes.io/pod-name'), ['cart-1']);
    assert.deepEqual(valueAt(extra, 'authentication.kubernetes.io/node-name'), ['node-1']);
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    assert.equal(textAt(claims, 'iss'), TOKEN_ISSUER);
  });

  test('of another audience are not authenticated', async () => {
    const token = await api.serviceAccountToken('shop', 'cart', { audience: 'elsewhere' });
    assert.notEqual(valueAt(await review(token, 'istio-ca'), 'status', 'authenticated'), true);
  });

  test('end with the pod they are bound to', async () => {
    await api.call('POST', '/api/v1/namespaces/shop/pods', pod('cart-2', 'cart', 'node-1'));
    const token = await api.serviceAccountToken('shop', 'cart', { audience: 'istio-ca', boundPod: 'cart-2' });
    await api.call('DELETE', '/api/v1/namespaces/shop/pods/cart-2?gracePeriodSeconds=0');
    assert.notEqual(valueAt(await review(token, 'istio-ca'), 'status', 'authenticated'), true);
  });
});

describe('authorization', () => {
  test('refuses a service account without a role, and lets it in with one', async () => {
    await api.namespace('empty');
    const token = await api.serviceAccountToken('empty', 'default');
    const list = () => api.call('GET', '/api/v1/namespaces/empty/pods', undefined, token);
    await assert.rejects(list, isRefusal(403, 'Forbidden'));
    const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/empty';
    const rules = [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }];
    await api.call('POST', `${rbac}/roles`, { metadata: { name: 'pods' }, rules });
    await api.call('POST', `${rbac}/rolebindings`, {
      metadata: { name: 'pods' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'pods' },
      subjects: [{ kind: 'ServiceAccount', name: 'default', namespace: 'empty' }],
    });
    // The authorizer reads roles from its own watch.
    await eventually('the role counts', list);
  });

  test('refuses who shows nothing', async () => {
    await assert.rejects(
      api.call('GET', '/api/v1/namespaces/default/pods', undefined, 'not-a-token'),
      isRefusal(401, 'Unauthorized'),
    );
  });
});

describe('kinds beyond the built-in ones', () => {
  test('a ClusterTrustBundle can be written', async () => {
    const path = '/apis/certificates.k8s.io/v1beta1/clustertrustbundles';
    await api.call('POST', path, {
      apiVersion: 'certificates.k8s.io/v1beta1',
      kind: 'ClusterTrustBundle',
      metadata: { name: 'roots' },
      spec: { trustBundle: api.files.authority.pem },
    });
    assert.equal(textAt(await api.call('GET', `${path}/roots`), 'metadata', 'name'), 'roots');
  });

  test('the definitions of the Gateway API are served', async () => {
    const path = '/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways';
    assert.equal(textAt(await api.call('GET', path), 'kind'), 'GatewayList');
  });
});

describe('failures', () => {
  test('a restart cuts a watch, keeps the objects and the port', async () => {
    await configMap('before-restart');
    const watch = await openWatch('');
    const cut = watch.ended();
    await api.restart();
    await cut;
    assert.equal(textAt(await api.call('GET', `${CONFIG_MAPS}/before-restart`), 'kind'), 'ConfigMap');
  });

  test('a stopped server refuses connections until it is started again', async () => {
    await api.stopServer();
    await assert.rejects(api.call('GET', '/readyz'), { code: 'ECONNREFUSED' });
    await api.startServer();
    await api.call('GET', '/readyz');
  });

  test('after a compaction a page and a watch from before answer 410', async () => {
    await configMap('page-1');
    await configMap('page-2');
    const list = await api.call('GET', `${CONFIG_MAPS}?limit=1`);
    const next = encodeURIComponent(textAt(list, 'metadata', 'continue'));
    await configMap('page-3');
    await api.compact();
    await assert.rejects(api.call('GET', `${CONFIG_MAPS}?limit=1&continue=${next}`), isRefusal(410, 'Expired'));
    const watch = await openWatch(textAt(list, 'metadata', 'resourceVersion'));
    const first = await watch.firstEvent();
    assert.equal(textAt(first, 'type'), 'ERROR');
    assert.equal(valueAt(first, 'object', 'code'), 410);
  });
});

test('nothing is left of a server that was closed', async () => {
  const other = await openKubeApi({ crds: false });
  await other[Symbol.asyncDispose]();
  assert.equal(existsSync(other.files.folder), false);
  await assert.rejects(other.call('GET', '/readyz'), { code: 'ECONNREFUSED' });
});

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

function configMap(name: string): Promise<unknown> {
  return api.call('POST', CONFIG_MAPS, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } });
}

function review(token: string, audience: string): Promise<unknown> {
  return api.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences: [audience] },
  });
}

function pod(name: string, serviceAccountName: string, nodeName: string): unknown {
  const containers = [{ name: 'main', image: 'localhost/none:1' }];
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name }, spec: { serviceAccountName, nodeName, containers } };
}

function isRefusal(status: number, reason: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof KubeApiRefusal, String(error));
    assert.deepEqual([error.status, error.reason], [status, reason]);
    return true;
  };
}

function openWatch(resourceVersion: string) {
  return api.stream(`${CONFIG_MAPS}?watch=true&resourceVersion=${resourceVersion}`);
}
