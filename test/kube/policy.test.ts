/** Policies from a real API server to the verdicts of an agent, through every change a user can make. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { withStandIns } from '../../control/sources/stand-ins.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { createPod } from '../support/kube-control.ts';
import { KubeWorld } from '../support/kube-source-world.ts';
import { PolicyMesh } from '../support/policy-mesh.ts';

let api: KubeApi;
let world: KubeWorld;
const mesh = new PolicyMesh();

before(async () => {
  api = await openKubeApi();
  await api.namespace('istio-system');
  await api.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  await createPod(api, { namespace: 'shop', name: 'web', ip: '10.0.0.2', node: 'a', labels: { app: 'web' } });
  world = new KubeWorld(api);
  const synced = Promise.withResolvers<void>();
  await world.source.start(
    withStandIns({
      changed: (change) => mesh.apply(change),
      problems: () => undefined,
      synced: () => synced.resolve(),
    }),
  );
  await synced.promise;
});

after(async () => {
  await world?.source.close();
  world?.client.close();
  await api?.[Symbol.asyncDispose]();
});

/** Captured client, then uncaptured one: `+` passes, `-` is refused. */
function verdicts(port = 8080): string {
  return ['shop/front', undefined].map((from) => (mesh.allows({ from, to: 'shop/web', port }) ? '+' : '-')).join('');
}

async function becomes(expected: string, port = 8080): Promise<void> {
  await eventually(`verdicts ${expected}`, () => assert.equal(verdicts(port), expected));
}

const policy = (name: string, spec: unknown) => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name, namespace: 'shop' },
  spec,
});

test('a policy that was never valid denies its scope until it is corrected; then its last good version stays', async () => {
  const client = api.admin();
  await becomes('++');
  await client.create(
    RESOURCES.AuthorizationPolicy,
    'shop',
    policy('p', { action: 'DENY', rules: [{ from: [{ source: { ipBlocks: ['10.0.0.300'] } }] }] }),
  );
  await becomes('--');
  const corrected = { spec: { rules: [{ from: [{ source: { notNamespaces: ['shop'] } }] }] } };
  await client.mergePatch(RESOURCES.AuthorizationPolicy, 'shop', 'p', corrected);
  await becomes('+-');
  const spoilt = { spec: { rules: [{ from: [{ source: { ipBlocks: ['10.0.0.300'] } }] }] } };
  await client.mergePatch(RESOURCES.AuthorizationPolicy, 'shop', 'p', spoilt);
  // Another policy shows that the watch has come this far.
  await client.create(
    RESOURCES.AuthorizationPolicy,
    'shop',
    policy('q', { action: 'DENY', rules: [{ to: [{ operation: { ports: ['9090'] } }] }] }),
  );
  await becomes('--', 9090);
  assert.equal(verdicts(), '+-', 'the last good version is in force');
  await client.delete(RESOURCES.AuthorizationPolicy, 'shop', 'p');
  await becomes('++');
});

test('modes of mTLS are inherited over all levels, as they come and go', async () => {
  const client = api.admin();
  const peer = (namespace: string, name: string, spec: unknown) =>
    client.create(RESOURCES.PeerAuthentication, namespace, {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name, namespace },
      spec,
    });
  await peer('istio-system', 'mesh', { mtls: { mode: 'STRICT' } });
  await becomes('+-');
  await peer('shop', 'all', {});
  await peer('shop', 'web', {
    selector: { matchLabels: { app: 'web' } },
    portLevelMtls: { '8080': { mode: 'PERMISSIVE' } },
  });
  await becomes('++');
  assert.equal(verdicts(7070), '+-');
  await client.delete(RESOURCES.PeerAuthentication, 'istio-system', 'mesh');
  await becomes('++', 7070);
});
