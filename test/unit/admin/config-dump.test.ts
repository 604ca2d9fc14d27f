import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configDump } from '../../../agent/admin/config-dump.ts';
import type { LiveConnectionView } from '../../../agent/dataplane/messages.ts';
import { getIp } from '../../../core/ip.ts';
import { testAdminSource } from '../../support/admin-source.ts';
import { createAuthority } from '../../support/pki.ts';

const pod = { uid: 'u-1', name: 'frontend-1', namespace: 'shop', serviceAccount: 'frontend', ips: [getIp('10.1.0.1')] };
const connection: LiveConnectionView = {
  id: 1,
  worker: 0,
  podUid: 'u-1',
  direction: 'outbound',
  path: 'hbone',
  source: '10.1.0.1:40000',
  sourceIp: getIp('10.1.0.1'),
  originalDestination: '10.9.0.1:80',
  actualDestination: '10.2.0.1:8080',
  ageMs: 5,
  bytesReceived: 1,
  bytesSent: 2,
};

/** What reaches a client: the dump after JSON. */
async function dump(fields: Parameters<typeof testAdminSource>[0] = {}) {
  return JSON.parse(JSON.stringify(await configDump(testAdminSource(fields))));
}

test('workloads, services and policies have the keys and words istioctl reads', async () => {
  const { workloads, services, policies } = await dump();
  assert.deepEqual(
    workloads.map(({ uid }: { uid: string }) => uid),
    [
      'c//Pod/legacy/cron-1',
      'c//Pod/shop/cart-1',
      'c//Pod/shop/frontend-1',
      'c//Pod/shop/late-1',
      'c//Pod/shop/stock-1',
    ],
  );
  const stock = workloads.at(-1);
  assert.equal(stock.protocol, 'HBONE');
  assert.equal(workloads[0].protocol, 'TCP');
  assert.equal(stock.status, 'Healthy');
  assert.deepEqual(stock.workloadIps, ['10.2.0.1']);
  assert.deepEqual(stock.authorizationPolicies, ['shop/stock-readers']);
  const service = services.find(({ name }: { name: string }) => name === 'stock');
  assert.deepEqual(service.vips, ['/10.9.0.1']);
  assert.deepEqual(service.ports, { 80: 8080 });
  assert.equal(service.visibility, 'Public');
  assert.deepEqual(service.endpoints, {
    'c//Pod/shop/stock-1': { workloadUid: 'c//Pod/shop/stock-1', port: { 80: 8080 }, status: 'Healthy' },
  });
  assert.deepEqual(policies, [
    {
      name: 'no-debug',
      namespace: 'shop',
      scope: 'Namespace',
      action: 'Deny',
      rules: [[[{ destinationPorts: [9999] }]]],
    },
    {
      name: 'stock-readers',
      namespace: 'shop',
      scope: 'WorkloadSelector',
      action: 'Allow',
      rules: [[[{ principals: [{ Exact: 'cluster.local/ns/shop/sa/frontend' }] }]]],
    },
  ]);
});

test('pods carry their connections by direction', async () => {
  const { workloadState } = await dump({ pods: () => [{ pod, state: 'up' }], connections: async () => [connection] });
  assert.deepEqual(workloadState, {
    'u-1': {
      state: 'Up',
      connections: {
        inbound: [],
        outbound: [
          { src: '10.1.0.1:40000', originalDst: '10.9.0.1:80', actualDst: '10.2.0.1:8080', protocol: 'HBONE' },
        ],
      },
      info: { name: 'frontend-1', namespace: 'shop', trustDomain: 'cluster.local', serviceAccount: 'frontend' },
    },
  });
});

test('certificates are described one by one, sorted by identity, with their state', async () => {
  const authority = createAuthority();
  const leaf = authority.issue();
  const { certificates } = await dump({
    certificates: () => [
      { identity: 'spiffe://z', state: { kind: 'unavailable', reason: 'the CA is away' }, chainPem: '', rootsPem: '' },
      {
        identity: 'spiffe://a',
        state: { kind: 'available' },
        chainPem: leaf.certificateChainPem,
        rootsPem: authority.pem,
      },
    ],
  });
  assert.deepEqual(
    certificates.map(({ identity, state }: Record<string, unknown>) => [identity, state]),
    [
      ['spiffe://a', 'Available'],
      ['spiffe://z', 'Unavailable: the CA is away'],
    ],
  );
  const [described] = certificates[0].certChain;
  assert.equal(certificates[0].rootCerts.length, 1);
  assert.match(Buffer.from(described.pem, 'base64').toString(), /^-----BEGIN CERTIFICATE-----/);
  assert.match(described.serialNumber, /^[0-9]+$/);
  assert.match(described.validFrom, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.ok(described.validFrom < described.expirationTime);
  assert.ok(!JSON.stringify(certificates).includes('PRIVATE'));
});
