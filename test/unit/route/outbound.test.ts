import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideOutbound, type RouteSettings } from '../../../agent/route/outbound.ts';
import type { MeshState } from '../../../agent/state/mesh-state.ts';
import { formatSocketAddress } from '../../../core/ip.ts';
import { at, gatewayAt, getWorkload, meshOf, service, workload } from '../../support/mesh-resources.ts';

const CLIENT = workload('client', { ips: ['10.0.0.1', '2001:db8::1'] });
const SETTINGS: RouteSettings = { outboundPolicy: 'ALLOW_ANY', forceEncryption: false, isLocalPod: () => false };
const IDENTITY = 'spiffe://cluster.local/ns/default/sa/';

/** The decision in one line: kind, where to, for a tunnel what is asked of whom, for a refusal its code. */
function decide(state: MeshState, target: string, settings = SETTINGS, source = 'client', random = () => 0.5): string {
  const from = getWorkload(state, source);
  const [clientIp] = from.addresses;
  assert.ok(clientIp);
  const decision = decideOutbound(state, from, clientIp, at(target), settings, random);
  switch (decision.kind) {
    case 'tunnel': {
      const peers = decision.expectedIdentities.map((identity) => identity.replace(IDENTITY, '')).join(',');
      return `${decision.hop} ${formatSocketAddress(decision.dial)} for ${decision.authority} as ${peers}`;
    }
    case 'sameNode':
      return `sameNode ${decision.destination.name} ${formatSocketAddress(decision.address)}`;
    case 'plain':
      return `plain ${formatSocketAddress(decision.dial)} ${decision.destination?.name ?? decision.service?.name ?? '-'}`;
    case 'refuse':
      return `refuse ${decision.error.code}`;
  }
}

describe('a workload address', () => {
  const hbone = workload('hbone', { ips: ['10.0.0.2'] });
  const plain = workload('plain', { ips: ['10.0.0.3'], tunnelProtocol: 0 });

  for (const node of ['node-1', 'node-2']) {
    test(`on ${node} is reached through a tunnel to its port 15008 when it speaks HBONE`, () => {
      const state = meshOf(CLIENT, workload('hbone', { ips: ['10.0.0.2'], node }));
      assert.equal(decide(state, '10.0.0.2:80'), 'direct 10.0.0.2:15008 for 10.0.0.2:80 as hbone');
    });

    test(`on ${node} is reached plainly when it does not`, () => {
      const state = meshOf(CLIENT, workload('plain', { ips: ['10.0.0.3'], tunnelProtocol: 0, node }));
      assert.equal(decide(state, '10.0.0.3:80'), 'plain 10.0.0.3:80 plain');
    });
  }

  test('of a pod of this agent is reached directly, unless encryption is forced', () => {
    const state = meshOf(CLIENT, hbone, plain);
    const local = { ...SETTINGS, isLocalPod: (uid: string) => uid.endsWith('/hbone') };
    assert.equal(decide(state, '10.0.0.2:80', local), 'sameNode hbone 10.0.0.2:80');
    assert.equal(decide(state, '10.0.0.3:80', local), 'plain 10.0.0.3:80 plain');
    const forced = { ...local, forceEncryption: true };
    assert.equal(decide(state, '10.0.0.2:80', forced), 'direct 10.0.0.2:15008 for 10.0.0.2:80 as hbone');
  });

  test('of a pod of this agent whose application wants tunnels is reached through one', () => {
    const state = meshOf(
      CLIENT,
      workload('tunnelled', { ips: ['10.0.0.2'], applicationTunnel: { protocol: 1, port: 15088 } }),
    );
    const local = { ...SETTINGS, isLocalPod: () => true };
    assert.equal(decide(state, '10.0.0.2:80', local), 'direct 10.0.0.2:15008 for 10.0.0.2:80 as tunnelled');
  });

  test('of two families is kept as it was asked for', () => {
    const state = meshOf(CLIENT, workload('dual', { ips: ['10.0.0.4', '2001:db8::4'] }));
    assert.equal(decide(state, '10.0.0.4:80'), 'direct 10.0.0.4:15008 for 10.0.0.4:80 as dual');
    assert.equal(decide(state, '[2001:db8::4]:80'), 'direct [2001:db8::4]:15008 for [2001:db8::4]:80 as dual');
  });

  test('on another network does not exist here', () => {
    const state = meshOf(CLIENT, workload('remote', { ips: ['10.0.0.2'], network: 'remote' }));
    assert.equal(decide(state, '10.0.0.2:80'), 'plain 10.0.0.2:80 -');
  });
});

describe('an unknown address', () => {
  test('is passed through', () => {
    assert.equal(decide(meshOf(CLIENT), '1.2.3.4:80'), 'plain 1.2.3.4:80 -');
  });

  test('is refused under REGISTRY_ONLY, while known ones are not', () => {
    const state = meshOf(
      CLIENT,
      workload('other', { ips: ['10.0.0.2'] }),
      service('external', { vips: ['198.51.100.7'], loadBalancing: { mode: 3 } }),
    );
    const settings = { ...SETTINGS, outboundPolicy: 'REGISTRY_ONLY' } as const;
    assert.equal(decide(state, '1.2.3.4:80', settings), 'refuse REGISTRY_ONLY');
    assert.equal(decide(state, '10.0.0.2:80', settings), 'direct 10.0.0.2:15008 for 10.0.0.2:80 as other');
    assert.equal(decide(state, '198.51.100.7:80', settings), 'plain 198.51.100.7:80 external');
  });
});

describe('a service address', () => {
  const key = 'default/web.default.svc';

  test('leads to the target port of an endpoint', () => {
    const state = meshOf(
      CLIENT,
      service('web', {
        vips: ['10.1.0.1'],
        ports: { 80: 8080 },
        subjectAltNames: ['spiffe://td/ns/a/sa/b', 'dns.example'],
      }),
      workload('web-1', { ips: ['10.0.0.2'], services: { [key]: {} } }),
    );
    assert.equal(
      decide(state, '10.1.0.1:80'),
      'direct 10.0.0.2:15008 for 10.0.0.2:8080 as web-1,spiffe://td/ns/a/sa/b',
    );
  });

  test('without endpoints is refused, and so is a port it does not have', () => {
    const state = meshOf(CLIENT, service('web', { vips: ['10.1.0.1'] }));
    assert.equal(decide(state, '10.1.0.1:80'), 'refuse NO_HEALTHY_ENDPOINT');
    assert.equal(decide(state, '10.1.0.1:81'), 'refuse UNKNOWN_SERVICE');
  });

  test('with a named target port leads only to endpoints that have it', () => {
    const state = meshOf(
      CLIENT,
      service('web', { vips: ['10.1.0.1'], ports: { 80: 0 } }),
      workload('without', { ips: ['10.0.0.2'], services: { [key]: {} } }),
      workload('with', { ips: ['10.0.0.3'], services: { [key]: { 80: 9090 } } }),
    );
    for (const random of [0, 0.3, 0.6, 0.999])
      assert.equal(
        decide(state, '10.1.0.1:80', SETTINGS, 'client', () => random),
        'direct 10.0.0.3:15008 for 10.0.0.3:9090 as with',
      );
  });

  test('leads to the own port of an endpoint, else the common one, else behind an application tunnel the same', () => {
    const state = meshOf(
      CLIENT,
      service('web', { vips: ['10.1.0.1'], ports: { 80: 8080, 81: 0 } }),
      workload('own', { ips: ['10.0.0.2'], services: { [key]: { 80: 9090 } } }),
    );
    assert.equal(decide(state, '10.1.0.1:80'), 'direct 10.0.0.2:15008 for 10.0.0.2:9090 as own');
    assert.equal(decide(state, '10.1.0.1:81'), 'refuse NO_HEALTHY_ENDPOINT');
    const tunnelled = meshOf(
      CLIENT,
      service('web', { vips: ['10.1.0.1'], ports: { 81: 0 } }),
      workload('app', { ips: ['10.0.0.2'], services: { [key]: {} }, applicationTunnel: { port: 15088 } }),
    );
    assert.equal(decide(tunnelled, '10.1.0.1:81'), 'direct 10.0.0.2:15008 for 10.0.0.2:81 as app');
  });

  test('reaches the right one of several pods on the host network, whose node address stays unknown', () => {
    const state = meshOf(
      CLIENT,
      service('web', { vips: ['10.1.0.1'] }),
      service('api', { vips: ['10.1.0.2'] }),
      workload('web-1', { ips: ['10.0.9.1'], networkMode: 1, tunnelProtocol: 0, services: { [key]: {} } }),
      workload('api-1', {
        ips: ['10.0.9.1'],
        networkMode: 1,
        tunnelProtocol: 0,
        services: { 'default/api.default.svc': {} },
      }),
    );
    assert.equal(decide(state, '10.1.0.1:80'), 'plain 10.0.9.1:8080 web-1');
    assert.equal(decide(state, '10.1.0.2:80'), 'plain 10.0.9.1:8080 api-1');
    assert.equal(decide(state, '10.0.9.1:80'), 'plain 10.0.9.1:80 -');
  });

  test('follows the family of the address that was asked for, within those the service allows', () => {
    const endpoint = workload('web-1', { ips: ['10.0.0.2', '2001:db8::2'], services: { [key]: {} } });
    const vips = ['10.1.0.1', '/2001:db8:1::1'];
    const any = meshOf(CLIENT, service('web', { vips }), endpoint);
    assert.match(decide(any, '10.1.0.1:80'), /^direct 10\.0\.0\.2:15008/);
    assert.match(decide(any, '[2001:db8:1::1]:80'), /^direct \[2001:db8::2\]:15008/);
    const v4 = meshOf(CLIENT, service('web', { vips, ipFamilies: 1 }), endpoint);
    assert.match(decide(v4, '[2001:db8:1::1]:80'), /^direct 10\.0\.0\.2:15008/);
    const v6 = meshOf(CLIENT, service('web', { vips, ipFamilies: 2 }), endpoint);
    assert.match(decide(v6, '10.1.0.1:80'), /^direct \[2001:db8::2\]:15008/);
  });

  test('whose endpoints are on another network is refused, with or without a gateway', () => {
    for (const networkGateway of [undefined, gatewayAt('remote/10.9.9.9')]) {
      const state = meshOf(
        CLIENT,
        service('web', { vips: ['10.1.0.1'] }),
        workload('remote', { ips: ['10.0.0.2'], network: 'remote', services: { [key]: {} }, networkGateway }),
      );
      assert.equal(decide(state, '10.1.0.1:80'), 'refuse UNKNOWN_GATEWAY');
    }
  });

  test('prefers what is on this network, and refuses when that is gone', () => {
    const remote = workload('remote', { ips: ['10.0.0.2'], network: 'remote', services: { [key]: {} } });
    const mesh = (status: 0 | 1) =>
      meshOf(
        CLIENT,
        service('web', { vips: ['10.1.0.1'], loadBalancing: { mode: 2, routingPreference: [6] } }),
        workload('local', { ips: ['10.0.0.3'], services: { [key]: {} }, status }),
        remote,
      );
    assert.equal(decide(mesh(0), '10.1.0.1:80'), 'direct 10.0.0.3:15008 for 10.0.0.3:8080 as local');
    assert.equal(decide(mesh(1), '10.1.0.1:80'), 'refuse UNKNOWN_GATEWAY');
  });

  test('of a pass-through service is kept', () => {
    const state = meshOf(CLIENT, service('web', { vips: ['10.1.0.1'], loadBalancing: { mode: 3 } }));
    assert.equal(decide(state, '10.1.0.1:80'), 'plain 10.1.0.1:80 web');
  });

  test('of a pass-through service that is also a workload leads to that workload', () => {
    const state = meshOf(
      CLIENT,
      service('web', { vips: ['10.0.0.2'], loadBalancing: { mode: 3 } }),
      workload('web-1', { ips: ['10.0.0.2'] }),
    );
    assert.equal(decide(state, '10.0.0.2:80'), 'direct 10.0.0.2:15008 for 10.0.0.2:80 as web-1');
  });

  test('in a block leads to the service, unless a workload has exactly this address', () => {
    const state = meshOf(
      CLIENT,
      service('web', { vips: ['/10.2.0.0/16'] }),
      workload('web-1', { ips: ['10.0.0.2'], services: { [key]: {} } }),
      workload('inside', { ips: ['10.2.0.7'] }),
    );
    assert.equal(decide(state, '10.2.0.1:80'), 'direct 10.0.0.2:15008 for 10.0.0.2:8080 as web-1');
    assert.equal(decide(state, '10.2.0.7:80'), 'direct 10.2.0.7:15008 for 10.2.0.7:80 as inside');
  });

  test('is unknown to clients of other namespaces when the service is private', () => {
    const state = meshOf(
      CLIENT,
      workload('stranger', { ips: ['10.0.0.8'], namespace: 'other' }),
      service('web', { vips: ['10.1.0.1'], visibility: 1 }),
      workload('web-1', { ips: ['10.0.0.2'], services: { [key]: {} } }),
    );
    assert.equal(decide(state, '10.1.0.1:80'), 'direct 10.0.0.2:15008 for 10.0.0.2:8080 as web-1');
    const stranger = 'Kubernetes//Pod/other/stranger';
    assert.equal(decide(state, '10.1.0.1:80', SETTINGS, stranger), 'plain 10.1.0.1:80 -');
  });
});
