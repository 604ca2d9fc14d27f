/** `ambit analyze` on a real cluster: everything there is, with the rights of an administrator and with fewer. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isRecord } from '../../core/decoder.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { ROOT } from '../support/source-files.ts';

let api: KubeApi;

before(async () => {
  api = await openKubeApi();
  await api.namespace('istio-system');
  await api.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  await api.namespace('legacy');
  await api.createServiceAccount('shop', 'stock');
  await create('shop', 'pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'stock-1', labels: { app: 'stock' } },
    spec: { serviceAccountName: 'stock', containers: [{ name: 'stock', image: 'x' }] },
  });
  await create('shop', 'services', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'stock' },
    spec: { selector: { app: 'stock' }, ports: [{ port: 80, targetPort: 8080 }] },
  });
});

after(async () => {
  await api?.[Symbol.asyncDispose]();
});

async function create(
  namespace: string,
  plural: string,
  body: { apiVersion: string; [field: string]: unknown },
): Promise<void> {
  const root = body.apiVersion === 'v1' ? '/api/v1' : `/apis/${body.apiVersion}`;
  await api.call('POST', `${root}/namespaces/${namespace}/${plural}`, body);
}

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function runAnalyze(kubeconfig: string, ...more: string[]): Promise<Ended> {
  const args = [join(ROOT, 'cli/main.ts'), 'analyze', '--kubeconfig', kubeconfig, ...more];
  return new Promise((resolve) => {
    execFile(process.execPath, args, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
  });
}

/** `code object`, sorted as printed. */
function findings(stdout: string): string[] {
  const report: unknown = JSON.parse(stdout);
  assert.ok(isRecord(report) && Array.isArray(report.findings));
  return report.findings.map((found: unknown) =>
    isRecord(found) ? `${String(found.code)} ${String(found.object)}` : '',
  );
}

test('a cluster in order is said to be so', async () => {
  const { code, stdout, stderr } = await runAnalyze(api.kubeconfig);
  assert.equal(stderr, '');
  assert.match(stdout, /^√ nothing found in \d+ objects of the cluster\n$/);
  assert.equal(code, 0);
});

test('a cluster with mistakes is told of all of them, and ends with 2', async () => {
  await create('shop', 'authorizationpolicies', {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'get-only' },
    spec: { selector: { matchLabels: { app: 'stock' } }, rules: [{ to: [{ operation: { methods: ['GET'] } }] }] },
  });
  await create('shop', 'authorizationpolicies', {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'unreadable' },
    spec: { rules: [{ from: [{ source: { ipBlocks: ['10.0.0.300'] } }] }] },
  });
  await create('shop', 'networkpolicies', {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'web-only-80' },
    spec: { podSelector: {}, policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 8080 }] }] },
  });
  await create('legacy', 'services', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'nobody' },
    spec: { selector: { app: 'nobody' }, ports: [{ port: 80 }] },
  });
  const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image: 'x' }] } };
  await create('legacy', 'deployments', {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', labels: { 'istio.io/dataplane-mode': 'ambient' } },
    spec: { selector: { matchLabels: { app: 'web' } }, template },
  });
  const { code, stdout } = await runAnalyze(api.kubeconfig, '-o', 'json');
  assert.deepEqual(findings(stdout), [
    'AMB0107 AuthorizationPolicy/shop/get-only',
    'AMB0101 AuthorizationPolicy/shop/unreadable',
    'AMB0203 NetworkPolicy/shop/web-only-80',
    'AMB0202 Deployment/legacy/web',
    'AMB0401 Service/legacy/nobody',
  ]);
  assert.equal(code, 2);
  const shown = await runAnalyze(api.kubeconfig);
  assert.match(shown.stdout, /companion policy:\n {15}apiVersion: networking\.k8s\.io\/v1\n/);
});

test('with few rights it says what it could not look at, and does not guess', async () => {
  const rules = [
    { apiGroups: ['security.istio.io'], resources: ['authorizationpolicies'], verbs: ['list'] },
    { apiGroups: [''], resources: ['namespaces'], verbs: ['list'] },
  ];
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await api.call('POST', `${rbac}/clusterroles`, { metadata: { name: 'policies' }, rules });
  await api.call('POST', `${rbac}/clusterrolebindings`, {
    metadata: { name: 'policies' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'policies' },
    subjects: [{ kind: 'User', name: 'reader', apiGroup: 'rbac.authorization.k8s.io' }],
  });
  await create('shop', 'authorizationpolicies', {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'for-pods' },
    spec: {
      selector: { matchLabels: { app: 'elsewhere' } },
      rules: [{ from: [{ source: { serviceAccounts: ['x/y'] } }] }],
    },
  });
  const { code, stdout } = await runAnalyze(api.userKubeconfig({ user: 'reader' }));
  assert.equal(code, 2);
  assert.match(stdout, /not checked: you may not list .*pods/);
  assert.ok(!stdout.includes('AMB0102') && !stdout.includes('AMB0103'), stdout);
});

test('a cluster that cannot be reached is a failure and not a clean result', async () => {
  await api.stopServer();
  const { code, stderr } = await runAnalyze(api.kubeconfig);
  assert.equal(code, 2);
  assert.match(stderr, /KUBERNETES_API/);
});
