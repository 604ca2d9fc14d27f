import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideOutbound, type RouteSettings } from '../../../agent/route/outbound.ts';
import { sampleWaypoint } from '../../../agent/route/waypoint.ts';
import type { MeshState } from '../../../agent/state/mesh-state.ts';
import { formatGateway } from '../../../agent/state/workload.ts';
import { formatSocketAddress, getIp } from '../../../core/ip.ts';
import { at, gatewayAt, getService, getWorkload, meshOf, service, workload } from '../../support/mesh-resources.ts';

const CLIENT = workload('client', { ips: ['10.0.0.1', '2001:db8::1'] });
const WAYPOINT = workload('waypoint', { ips: ['10.0.0.9', '2001:db8::9'] });
const SETTINGS: RouteSettings = { outboundPolicy: 'ALLOW_ANY', forceEncryption: false, isLocalPod: () => true };
const BY_IP = gatewayAt('/10.0.0.9');
const BY_NAME = gatewayAt('default/waypoint.default.svc');

function decide(state: MeshState, target: string, source = 'client', clientIp?: string): string {
  const from = getWorkload(state, source);
  const ip = clientIp === undefined ? from.addresses[0] : getIp(clientIp);
  assert.ok(ip);
  const decision = decideOutbound(state, from, ip, at(target), SETTINGS, () => 0.5);
  switch (decision.kind) {
    case 'tunnel':
      return `${decision.hop} ${formatSocketAddress(decision.dial)} for ${decision.authority} of ${decision.destination.name}`;
    case 'sameNode':
      return `sameNode ${formatSocketAddress(decision.address)}`;
    case 'plain':
      return `plain ${formatSocketAddress(decision.dial)}`;
    case 'refuse':
      return `refuse ${decision.error.code}: ${decision.error.message}`;
  }
}

describe('the waypoint of a workload', () => {
  const server = workload('server', { ips: ['10.0.0.2', '2001:db8::2'], waypoint: BY_IP });

  test('is the next hop and is asked for the original address, also on one node', () => {
    const state = meshOf(CLIENT, WAYPOINT, server);
    assert.equal(decide(state, '10.0.0.2:80'), 'waypoint 10.0.0.9:15008 for 10.0.0.2:80 of waypoint');
  });

  test('given by an IPv4 address is dialled there, whatever the family of the target', () => {
    const state = meshOf(CLIENT, WAYPOINT, server);
    assert.equal(decide(state, '[2001:db8::2]:80'), 'waypoint 10.0.0.9:15008 for [2001:db8::2]:80 of waypoint');
  });

  test('of the source plays no part', () => {
    const state = meshOf(
      workload('client', { ips: ['10.0.0.1'], waypoint: BY_IP }),
      WAYPOINT,
      workload('server', { ips: ['10.0.0.2'] }),
    );
    assert.equal(decide(state, '10.0.0.2:80'), 'sameNode 10.0.0.2:80');
  });

  test('is not in the way of itself, but only for what it sends from its own address', () => {
    const state = meshOf(WAYPOINT, server);
    assert.equal(decide(state, '10.0.0.2:80', 'waypoint'), 'sameNode 10.0.0.2:80');
    assert.match(decide(state, '10.0.0.2:80', 'waypoint', '10.0.0.77'), /^waypoint/);
  });

  test('is not in the way of a client of the service, which has its own rules', () => {
    const state = meshOf(
      CLIENT,
      WAYPOINT,
      service('web', { vips: ['10.1.0.1'] }),
      workload('server', { ips: ['10.0.0.2'], waypoint: BY_IP, services: { 'default/web.default.svc': {} } }),
    );
    assert.equal(decide(state, '10.1.0.1:80'), 'sameNode 10.0.0.2:8080');
  });

  test('that is not known is an error and never passed by', () => {
    const state = meshOf(CLIENT, server);
    assert.match(decide(state, '10.0.0.2:80'), /^refuse UNKNOWN_WAYPOINT: the waypoint \/10\.0\.0\.9 is not known/);
  });
});

describe('the waypoint of a service', () => {
  const web = (waypoint = BY_IP) => service('web', { vips: ['10.1.0.1', '/2001:db8:1::1'], waypoint });
  const endpoint = workload('web-1', { ips: ['10.0.0.2'], services: { 'default/web.default.svc': {} } });

  test('is the next hop and is asked for the address of the service', () => {
    const state = meshOf(CLIENT, WAYPOINT, web(), endpoint);
    assert.equal(decide(state, '10.1.0.1:80'), 'waypoint 10.0.0.9:15008 for 10.1.0.1:80 of waypoint');
  });

  test('also decides over an address that is a workload as well', () => {
    const state = meshOf(CLIENT, WAYPOINT, web(), workload('same', { ips: ['10.1.0.1'] }));
    assert.match(decide(state, '10.1.0.1:80'), /^waypoint 10\.0\.0\.9:15008 for 10\.1\.0\.1:80/);
  });

  test('wins over pass-through', () => {
    const state = meshOf(
      CLIENT,
      WAYPOINT,
      service('web', { vips: ['10.1.0.1'], waypoint: BY_IP, loadBalancing: { mode: 3 } }),
    );
    assert.equal(decide(state, '10.1.0.1:80'), 'waypoint 10.0.0.9:15008 for 10.1.0.1:80 of waypoint');
  });

  test('given as a service name leads to an endpoint and its port, in the family of the target', () => {
    const state = meshOf(
      CLIENT,
      service('waypoint', { vips: ['10.1.0.9'], ports: { 15008: 15018 } }),
      workload('waypoint', { ips: ['10.0.0.9', '2001:db8::9'], services: { 'default/waypoint.default.svc': {} } }),
      web(BY_NAME),
    );
    assert.equal(decide(state, '10.1.0.1:80'), 'waypoint 10.0.0.9:15018 for 10.1.0.1:80 of waypoint');
    assert.match(decide(state, '[2001:db8:1::1]:80'), /^waypoint \[2001:db8::9\]:15018 for \[2001:db8:1::1\]:80/);
  });

  test('given as the address of a service leads to an endpoint of it', () => {
    const state = meshOf(
      CLIENT,
      service('waypoint', { vips: ['10.1.0.9'], ports: { 15008: 15008 } }),
      workload('waypoint', { ips: ['10.0.0.9'], services: { 'default/waypoint.default.svc': {} } }),
      web(gatewayAt('/10.1.0.9')),
    );
    assert.match(decide(state, '10.1.0.1:80'), /^waypoint 10\.0\.0\.9:15008/);
  });

  test('given as a service whose pods are tunnelled into need not declare the port', () => {
    const sandwiched = (applicationTunnel: { port: number } | undefined) =>
      meshOf(
        CLIENT,
        service('waypoint', { ports: {} }),
        workload('waypoint', {
          ips: ['10.0.0.9'],
          services: { 'default/waypoint.default.svc': {} },
          ...(applicationTunnel === undefined ? {} : { applicationTunnel }),
        }),
        web(BY_NAME),
      );
    assert.match(decide(sandwiched({ port: 15088 }), '10.1.0.1:80'), /^waypoint 10\.0\.0\.9:15008/);
    assert.match(decide(sandwiched(undefined), '10.1.0.1:80'), /^refuse UNKNOWN_WAYPOINT/);
  });

  test('given as the host name of a workload is dialled on the given port', () => {
    const state = meshOf(
      CLIENT,
      workload('waypoint', { ips: ['10.0.0.9'], hostname: 'waypoint.default.svc' }),
      web(gatewayAt('default/waypoint.default.svc', 15009)),
    );
    assert.match(decide(state, '10.1.0.1:80'), /^waypoint 10\.0\.0\.9:15009/);
  });

  test('is not in the way of any of its own instances', () => {
    const state = meshOf(
      service('waypoint', { ports: { 15008: 15008 } }),
      workload('waypoint', { ips: ['10.0.0.9'], services: { 'default/waypoint.default.svc': {} } }),
      workload('waypoint-2', { ips: ['10.0.0.19'], services: { 'default/waypoint.default.svc': {} } }),
      web(BY_NAME),
      endpoint,
    );
    for (const instance of ['waypoint', 'waypoint-2'])
      assert.equal(decide(state, '10.1.0.1:80', instance), 'sameNode 10.0.0.2:8080');
  });

  test('without instances, unknown or on another network is an error of its own', () => {
    const empty = meshOf(CLIENT, service('waypoint', { ports: { 15008: 15008 } }), web(BY_NAME), endpoint);
    assert.match(decide(empty, '10.1.0.1:80'), /^refuse UNKNOWN_WAYPOINT/);
    assert.match(decide(meshOf(CLIENT, web(BY_NAME), endpoint), '10.1.0.1:80'), /^refuse UNKNOWN_WAYPOINT/);
    const remote = workload('waypoint', { ips: ['10.0.0.9'], network: 'remote' });
    const away = meshOf(CLIENT, remote, web(gatewayAt('remote/10.0.0.9')), endpoint);
    assert.match(decide(away, '10.1.0.1:80'), /^refuse UNKNOWN_GATEWAY/);
  });
});

describe('weighted waypoints', () => {
  const WEIGHTED = [
    { destination: gatewayAt('/10.0.0.21'), weight: 75 },
    { destination: gatewayAt('/10.0.0.22'), weight: 0 },
    { destination: gatewayAt('/10.0.0.23'), weight: 25 },
  ];
  const sample = (weightedWaypoints: typeof WEIGHTED, random: number) => {
    const state = meshOf(service('web', { waypoint: BY_IP, weightedWaypoints }));
    const chosen = sampleWaypoint(getService(state, 'default/web.default.svc'), () => random);
    return chosen === undefined ? undefined : formatGateway(chosen);
  };

  test('are chosen in proportion, and never with weight zero', () => {
    const counts = new Map<string | undefined, number>();
    for (let i = 0; i < 1000; i++) {
      const chosen = sample(WEIGHTED, i / 1000);
      counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
    }
    assert.deepEqual(
      counts,
      new Map([
        ['/10.0.0.21', 750],
        ['/10.0.0.23', 250],
      ]),
    );
  });

  test('that are absent or all of weight zero leave the plain waypoint', () => {
    assert.equal(sample([], 0.5), '/10.0.0.9');
    assert.equal(
      sample(
        WEIGHTED.map((entry) => ({ ...entry, weight: 0 })),
        0.5,
      ),
      '/10.0.0.9',
    );
  });
});
