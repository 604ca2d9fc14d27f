/**
 * The definitions in api/crds and the decoders judge alike: a table of good and bad objects, sent to a real API server and
 * read by the decoder. Whatever the decoder takes, the schema takes. What the schema refuses is bad for the decoder too.
 * What only the decoder sees is listed as such: the admission webhook, which uses the decoder, refuses it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parse } from 'yaml';
import { decodeObject, KIND_TABLE } from '../../control/objects/object.ts';
import { isRecord } from '../../core/decoder.ts';
import { isInvalid } from '../../kube/api-error.ts';
import { collectionPath, RESOURCES } from '../../kube/resource.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { ROOT } from '../support/source-files.ts';

type Kind = 'AuthorizationPolicy' | 'PeerAuthentication' | 'ServiceEntry' | 'WorkloadEntry';
type Verdict = 'good' | 'bad' | 'bad for the decoder';

interface Case {
  readonly kind: Kind;
  readonly verdict: Verdict;
  readonly spec: unknown;
}

let api: KubeApi;
before(async () => {
  api = await openKubeApi();
});
after(() => api[Symbol.asyncDispose]());

const rules = (rule: unknown): unknown => ({ rules: [rule] });
const from = (source: unknown): unknown => rules({ from: [{ source }] });
const to = (operation: unknown): unknown => rules({ to: [{ operation }] });
const when = (condition: unknown): unknown => rules({ when: [condition] });
const app = { matchLabels: { app: 'a' } };
const port = { number: 443, name: 'https', protocol: 'TLS' };
const entry = (more: object): object => ({ hosts: ['example.com'], ports: [port], resolution: 'DNS', ...more });

function cases(kind: Kind, verdict: Verdict, ...specs: readonly unknown[]): Case[] {
  return specs.map((spec) => ({ kind, verdict, spec }));
}

const TABLE: readonly Case[] = [
  ...cases(
    'AuthorizationPolicy',
    'good',
    {},
    { selector: app, action: 'DENY', rules: [{}] },
    { action: 'CUSTOM', provider: { name: 'p' }, rules: [{}] },
    { targetRefs: [{ kind: 'Service', name: 's' }] },
    { targetRef: { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'g' } },
    from({ principals: ['*', 'cluster.local/ns/a/sa/b', 'x*', '*x'], notNamespaces: ['a'] }),
    from({ serviceAccounts: ['a', 'ns/a'] }),
    from({ ipBlocks: ['10.0.0.0/8', '192.0.2.1', '2001:db8::/32'], requestPrincipals: ['*'] }),
    to({ ports: ['1', '80', '65535'], paths: ['/a*'], methods: ['GET'], notHosts: ['a'] }),
    when({ key: 'source.ip', values: ['10.0.0.1'] }),
    when({ key: 'request.headers[x-a]', notValues: ['b'] }),
    when({ key: 'request.auth.claims[groups]', values: ['b'], notValues: ['c'] }),
  ),
  ...cases(
    'AuthorizationPolicy',
    'bad',
    { action: 'PERMIT' },
    { selector: { matchLabels: { 'a*': 'b' } } },
    { selector: { matchLabels: { a: 'b*' } } },
    { selector: app, targetRefs: [{ kind: 'Service', name: 's' }] },
    { targetRefs: [] },
    { targetRefs: [{ kind: 'Pod', name: 's' }] },
    { targetRefs: [{ kind: 'Service' }] },
    { action: 'CUSTOM' },
    { provider: { name: 'p' } },
    { rules: 'all' },
    rules({ from: [] }),
    rules({ from: [{}] }),
    from({}),
    from({ principals: [] }),
    from({ principals: [''] }),
    from({ principals: ['a*b'] }),
    from({ principals: ['*a*'] }),
    from({ principals: ['spiffe://cluster.local/ns/a/sa/b'] }),
    from({ principals: [7] }),
    from({ serviceAccounts: ['a'], principals: ['b'] }),
    from({ notServiceAccounts: ['a'], namespaces: ['b'] }),
    from({ serviceAccounts: ['a/b/c'] }),
    from({ serviceAccounts: ['ns/*'] }),
    from({ ipBlocks: ['localhost'] }),
    to({}),
    to({ ports: [80] }),
    to({ ports: ['0'] }),
    to({ ports: ['65536'] }),
    to({ ports: ['http'] }),
    to({ methods: [] }),
    when({ values: ['a'] }),
    when({ key: 'source.ip' }),
    when({ key: 'source.country', values: ['a'] }),
    when({ key: 'source.ip', values: [] }),
  ),
  ...cases(
    'AuthorizationPolicy',
    'bad for the decoder',
    { aktion: 'DENY' },
    rules({ form: [{ source: { principals: ['a'] } }] }),
    from({ principals: ['a'], notNamespacez: ['b'] }),
    to({ ports: ['80'], path: ['/a'] }),
    from({ ipBlocks: ['10.0.0.300'] }),
    from({ ipBlocks: ['10.0.0.0/33'] }),
    when({ key: 'source.ip', values: ['a'] }),
    when({ key: 'destination.port', values: ['http'] }),
    { targetRefs: [{ kind: 'Service', name: 's', namespace: 'other' }] },
  ),
  ...cases(
    'PeerAuthentication',
    'good',
    {},
    { mtls: { mode: 'STRICT' } },
    { mtls: {} },
    { selector: app, portLevelMtls: { '8080': { mode: 'DISABLE' }, '65535': {} } },
  ),
  ...cases(
    'PeerAuthentication',
    'bad',
    { mtls: { mode: 'strict' } },
    { portLevelMtls: { '8080': { mode: 'DISABLE' } } },
    { selector: {}, portLevelMtls: { '8080': { mode: 'DISABLE' } } },
    { selector: app, portLevelMtls: { http: {} } },
    { selector: app, portLevelMtls: { '0': {} } },
    { selector: app, portLevelMtls: { '65536': {} } },
  ),
  ...cases(
    'PeerAuthentication',
    'bad for the decoder',
    { mtls: { mod: 'STRICT' } },
    { mtsl: { mode: 'STRICT' } },
    { selector: { matchLabel: { app: 'a' } } },
  ),
  ...cases(
    'ServiceEntry',
    'good',
    { hosts: ['example.com'] },
    entry({}),
    entry({ hosts: ['Example.com', 'a_b.example'], addresses: ['240.0.0.1', '10.0.0.0/8', '2001:db8::1'] }),
    entry({ hosts: ['*.example.com'], resolution: 'NONE' }),
    entry({ hosts: ['*.example.com'], resolution: 'DYNAMIC_DNS' }),
    entry({
      resolution: 'STATIC',
      location: 'MESH_INTERNAL',
      endpoints: [{ address: '192.0.2.1', ports: { https: 8443 } }],
    }),
    entry({ resolution: 'STATIC', endpoints: [{ address: 'unix:///run/a.sock' }] }),
    entry({ resolution: 'STATIC', endpoints: [{ network: 'other' }] }),
    entry({ resolution: 'STATIC', workloadSelector: { labels: { app: 'a' } } }),
    entry({ endpoints: [{ address: 'a.example.com', locality: 'r/z', weight: 3, labels: { a: 'b' } }] }),
    entry({ exportTo: ['.'], subjectAltNames: ['spiffe://a/b'] }),
  ),
  ...cases(
    'ServiceEntry',
    'bad',
    {},
    { hosts: [] },
    { hosts: ['*'] },
    { hosts: ['a b'] },
    { hosts: ['a.*.b'] },
    { hosts: ['-a'] },
    entry({ resolution: 'dns' }),
    entry({ location: 'OUTSIDE' }),
    entry({ addresses: ['example.com'] }),
    entry({ addresses: ['10.0.0.0/33'] }),
    entry({ ports: [{ number: 0, name: 'a' }] }),
    entry({ ports: [{ number: 80 }] }),
    entry({ ports: [port, { ...port, name: 'b' }] }),
    entry({ ports: [port, { ...port, number: 80 }] }),
    entry({ workloadSelector: { labels: {} } }),
    entry({ workloadSelector: { labels: { a: 'b' } }, endpoints: [{ address: '192.0.2.1' }] }),
    entry({ resolution: 'NONE', endpoints: [{ address: '192.0.2.1' }] }),
    entry({ hosts: ['*.example.com'] }),
    entry({ resolution: 'DYNAMIC_DNS' }),
    entry({ hosts: ['*.example.com'], resolution: 'DYNAMIC_DNS', addresses: ['240.0.0.1'] }),
    entry({ resolution: 'STATIC', endpoints: [{}] }),
    entry({ resolution: 'STATIC', endpoints: [{ address: '192.0.2.1', ports: { https: 0 } }] }),
    entry({ resolution: 'STATIC', endpoints: [{ address: '192.0.2.1', weight: -1 }] }),
  ),
  ...cases(
    'ServiceEntry',
    'bad for the decoder',
    entry({ resolution: 'STATIC', endpoints: [{ address: 'a.example.com' }] }),
    entry({ resolution: 'STATIC', endpoints: [{ address: '10.0.0.300' }] }),
    entry({ endpoints: [{ address: 'a b' }] }),
  ),
  ...cases(
    'WorkloadEntry',
    'good',
    { address: '192.0.2.1' },
    { address: 'vm.example.com', serviceAccount: 'a', ports: { http: 80 }, labels: { app: 'a' }, weight: 1 },
    { network: 'other' },
    { address: '2001:db8::1', network: 'n', locality: 'a/b/c' },
  ),
  ...cases(
    'WorkloadEntry',
    'bad',
    {},
    { address: '' },
    { address: 7 },
    { address: 'unix:///run/a' },
    { address: '192.0.2.1', ports: { http: 70_000 } },
    { address: '192.0.2.1', labels: { a: 7 } },
  ),
  ...cases('WorkloadEntry', 'bad for the decoder', { address: '10.0.0.300' }, { address: 'a b' }),
];

describe('the API server and the decoder agree on', () => {
  for (const [index, { kind, verdict, spec }] of TABLE.entries()) {
    test(`${kind} ${JSON.stringify(spec)}: ${verdict}`, async () => {
      const version = index % 2 === 0 ? 'v1' : 'v1beta1';
      const resource = { ...RESOURCES[kind], version };
      const body = {
        apiVersion: `${resource.group}/${version}`,
        kind,
        metadata: { name: `case-${index}`, namespace: 'default' },
        spec,
      };
      const stored = await api
        .admin()
        .create(resource, 'default', body)
        .catch((thrown: unknown) => {
          assert.ok(isInvalid(thrown), String(thrown));
          assert.equal(verdict, 'bad', String(thrown));
          return undefined;
        });
      const row = KIND_TABLE.find((candidate) => candidate.kind === kind);
      assert.ok(row !== undefined);
      const decoded = decodeObject(row, stored ?? body);
      const problems = decoded.ok ? '' : JSON.stringify(decoded.problems);
      assert.equal(decoded.ok, verdict === 'good', problems);
      if (verdict === 'bad') assert.equal(stored, undefined, 'the API server refuses it');
    });
  }
});

test('every version serves the same object', async () => {
  for (const kind of ['AuthorizationPolicy', 'PeerAuthentication', 'ServiceEntry', 'WorkloadEntry'] as const) {
    const versions = kind.endsWith('Entry') ? ['v1', 'v1beta1', 'v1alpha3'] : ['v1', 'v1beta1'];
    const name = `served-${kind.toLowerCase()}`;
    const spec = kind === 'ServiceEntry' ? entry({}) : kind === 'WorkloadEntry' ? { address: '192.0.2.1' } : {};
    const { group, plural } = RESOURCES[kind];
    const body = { apiVersion: `${group}/v1`, kind, metadata: { name, namespace: 'default' }, spec };
    await api.admin().create(RESOURCES[kind], 'default', body);
    for (const version of versions) {
      const path = `${collectionPath({ ...RESOURCES[kind], version }, 'default')}/${name}`;
      const found = await api.admin().request({ method: 'GET', path });
      assert.ok(isRecord(found));
      assert.deepEqual(found.spec, spec, `${plural} ${version}`);
    }
  }
});

test('the status is a subresource: conditions merge by type, and addresses of a ServiceEntry are kept', async () => {
  const client = api.admin();
  const name = 'with-status';
  await client.create(RESOURCES.ServiceEntry, 'default', {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name, namespace: 'default' },
    spec: entry({}),
  });
  const apply = (fieldManager: string, status: object): Promise<unknown> =>
    client.apply(
      RESOURCES.ServiceEntry,
      'default',
      name,
      { apiVersion: 'networking.istio.io/v1', kind: 'ServiceEntry', metadata: { name }, status },
      { fieldManager, force: true, subresource: 'status' },
    );
  const condition = (type: string): object => ({
    type,
    status: 'True',
    reason: 'R',
    message: 'm',
    observedGeneration: 1,
  });
  await apply('one', { conditions: [condition('a')], addresses: [{ value: '240.240.0.1', host: 'example.com' }] });
  await apply('two', { conditions: [condition('b')] });
  const { status } = await client.get(RESOURCES.ServiceEntry, 'default', name);
  assert.ok(isRecord(status));
  assert.deepEqual(status.addresses, [{ value: '240.240.0.1', host: 'example.com' }]);
  assert.deepEqual(
    (status.conditions as { type: string }[]).map(({ type }) => type),
    ['a', 'b'],
  );
  await assert.rejects(apply('one', { conditions: [{ type: 'a', status: 'Maybe' }] }), isInvalid);
});

test('the definitions are those of the kinds, keep what they hold when a chart goes, and show columns', () => {
  const files = readdirSync(join(ROOT, 'api', 'crds')).sort();
  const kinds = files.map((file) => {
    const definition: unknown = parse(readFileSync(join(ROOT, 'api', 'crds', file), 'utf8'));
    const text = JSON.stringify(definition);
    assert.match(text, /"helm.sh\/resource-policy":"keep"/);
    assert.match(text, /"additionalPrinterColumns":\[\{/);
    return /"kind":"(\w+)","listKind"/.exec(text)?.[1];
  });
  assert.deepEqual(kinds, ['AuthorizationPolicy', 'PeerAuthentication', 'ServiceEntry', 'WorkloadEntry']);
});
