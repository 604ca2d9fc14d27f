import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideInbound, guessInboundService } from '../../../agent/route/inbound.ts';
import type { MeshState } from '../../../agent/state/mesh-state.ts';
import { formatSocketAddress, getIp } from '../../../core/ip.ts';
import { gatewayAt, getWorkload, meshOf, service, type TestResource, workload } from '../../support/mesh-resources.ts';

const KEY = 'default/web.default.svc';

/** The decision in one line. The pod is `default/web-1`, dialled at its first address unless `dialed` says otherwise. */
function decide(state: MeshState, authority: string, local = 'web-1', dialed?: string, forwardedHost?: string): string {
  const pod = getWorkload(state, local);
  const ip = dialed === undefined ? pod.addresses[0] : getIp(dialed);
  assert.ok(ip);
  const decision = decideInbound(state, pod, ip, authority, forwardedHost);
  if (decision.kind === 'refuse') return `${decision.status} ${decision.error.code}`;
  const proxied = decision.proxyDestination;
  const header = proxied === undefined ? '' : ` announcing ${formatSocketAddress(proxied)}`;
  return `${formatSocketAddress(decision.address)} ${decision.service?.name ?? '-'}${header}`;
}

const POD = workload('web-1', { ips: ['10.0.0.2', '2001:db8::2'], services: { [KEY]: {} } });
const WEB = service('web', { vips: ['10.1.0.1'], ports: { 80: 8080, 81: 0 } });

describe('an authority with an address', () => {
  const state = meshOf(POD, WEB, workload('other', { ips: ['10.0.0.3'] }));
  const cases: [string, string, string | undefined, string][] = [
    ['the address that was dialled is dialled on', '10.0.0.2:8080', undefined, '10.0.0.2:8080 web'],
    ['a port of no service has no service', '10.0.0.2:9999', undefined, '10.0.0.2:9999 -'],
    ['IPv6 works alike', '[2001:db8::2]:8080', '2001:db8::2', '[2001:db8::2]:8080 web'],
    ['another pod is refused', '10.0.0.3:8080', undefined, '400 BAD_AUTHORITY'],
    ['another address of the pod is refused', '10.0.0.2:8080', '2001:db8::2', '400 BAD_AUTHORITY'],
    ['a service address is refused', '10.1.0.1:80', undefined, '400 BAD_AUTHORITY'],
    ['an unknown address is refused', '1.2.3.4:80', undefined, '400 BAD_AUTHORITY'],
    ['what is no authority is refused', '10.0.0.2', undefined, '400 BAD_AUTHORITY'],
    ['the port of the tunnel itself is refused', '10.0.0.2:15008', undefined, '503 LOOP'],
    ['the port of outbound capture is refused', '10.0.0.2:15001', undefined, '503 LOOP'],
    ['the port of plaintext capture is refused', '10.0.0.2:15006', undefined, '503 LOOP'],
  ];
  for (const [name, authority, dialed, expected] of cases)
    test(name, () => assert.equal(decide(state, authority, 'web-1', dialed), expected));
});

describe('an authority with a host name', () => {
  const state = meshOf(POD, WEB, service('api', { vips: ['10.1.0.2'] }), workload('lone', { ips: ['10.0.0.5'] }));

  test('of a service of this pod leads to the target port', () => {
    assert.equal(decide(state, 'web.default.svc:80'), '10.0.0.2:8080 web');
  });

  test('with a named target port leads to the port of this pod', () => {
    const named = meshOf(workload('web-1', { ips: ['10.0.0.2'], services: { [KEY]: { 81: 9090 } } }), WEB);
    assert.equal(decide(named, 'web.default.svc:81'), '10.0.0.2:9090 web');
  });

  test('is refused where the pod does not answer for the port', () => {
    assert.equal(decide(state, 'web.default.svc:81'), '503 UNKNOWN_SERVICE');
    assert.equal(decide(state, 'web.default.svc:443'), '503 UNKNOWN_SERVICE');
  });

  test('is refused when unknown, or of a service this pod has no part in', () => {
    assert.equal(decide(state, 'nobody.default.svc:80'), '503 UNKNOWN_SERVICE');
    assert.equal(decide(state, 'api.default.svc:80'), '400 BAD_AUTHORITY');
    assert.equal(decide(state, 'web.default.svc:80', 'lone'), '400 BAD_AUTHORITY');
  });

  test('that leads to a port of the agent is refused', () => {
    const looping = meshOf(POD, service('web', { ports: { 80: 15008 } }));
    assert.equal(decide(looping, 'web.default.svc:80'), '503 LOOP');
  });

  test('shared by services of two namespaces means the one this pod belongs to', () => {
    const shared = meshOf(
      service('a-web', { namespace: 'a', hostname: 'web.example', ports: { 80: 1111 } }),
      service('b-web', { namespace: 'b', hostname: 'web.example', ports: { 80: 2222 } }),
      workload('web-1', { ips: ['10.0.0.2'], services: { 'b/web.example': {} } }),
    );
    assert.equal(decide(shared, 'web.example:80'), '10.0.0.2:2222 b-web');
  });
});

describe('a waypoint', () => {
  const instance = (fields = {}) =>
    workload('waypoint', { ips: ['10.0.0.9'], services: { 'default/waypoint.default.svc': {} }, ...fields });
  const gateway = service('waypoint', { vips: ['10.1.0.9'], ports: { 15008: 15008 } });
  const byIp = gatewayAt('/10.0.0.9');
  const byVip = gatewayAt('/10.1.0.9');
  const byName = gatewayAt('default/waypoint.default.svc');
  const mesh = (...resources: TestResource[]) => meshOf(instance(), gateway, ...resources);
  const ask = (state: MeshState, authority: string) => decide(state, authority, 'waypoint');

  for (const [how, waypoint] of [
    ['its address', byIp],
    ['the address of its service', byVip],
    ['the name of its service', byName],
  ] as const) {
    test(`bound by ${how} answers for the workload`, () => {
      const state = mesh(workload('server', { ips: ['10.0.0.2'], waypoint }));
      assert.equal(ask(state, '10.0.0.2:8080'), '10.0.0.9:8080 -');
    });

    test(`bound by ${how} answers for the service by address and by name`, () => {
      const state = mesh(service('web', { vips: ['10.1.0.1'], waypoint, ports: { 80: 80 } }));
      assert.equal(ask(state, '10.1.0.1:80'), '10.0.0.9:80 -');
      assert.equal(ask(state, 'web.default.svc:80'), '10.0.0.9:80 web');
    });
  }

  test('bound as one of several weighted ones answers', () => {
    const weightedWaypoints = [
      { destination: gatewayAt('/10.0.0.77'), weight: 1 },
      { destination: byIp, weight: 1 },
    ];
    assert.equal(ask(mesh(service('web', { vips: ['10.1.0.1'], weightedWaypoints })), '10.1.0.1:80'), '10.0.0.9:80 -');
  });

  test('that is not bound does not answer', () => {
    const state = mesh(workload('server', { ips: ['10.0.0.2'] }), service('web', { vips: ['10.1.0.1'] }));
    assert.equal(ask(state, '10.0.0.2:80'), '400 BAD_AUTHORITY');
    assert.equal(ask(state, '10.1.0.1:80'), '400 BAD_AUTHORITY');
  });

  test('of the service does not answer for the workloads behind it, nor the other way round', () => {
    const ofService = mesh(
      service('web', { vips: ['10.1.0.1'], waypoint: byIp }),
      workload('server', { ips: ['10.0.0.2'], services: { [KEY]: {} } }),
    );
    assert.equal(ask(ofService, '10.0.0.2:80'), '400 BAD_AUTHORITY');
    const ofWorkload = mesh(
      service('web', { vips: ['10.1.0.1'] }),
      workload('server', { ips: ['10.0.0.2'], services: { [KEY]: {} }, waypoint: byIp }),
    );
    assert.equal(ask(ofWorkload, '10.1.0.1:80'), '400 BAD_AUTHORITY');
  });

  test('whose application takes tunnels gets every connection on its own port, announced when it asks for that', () => {
    const server = workload('server', { ips: ['10.0.0.2'], waypoint: byIp });
    const plain = meshOf(instance({ applicationTunnel: { protocol: 0, port: 15088 } }), gateway, server);
    assert.equal(ask(plain, '10.0.0.2:80'), '10.0.0.9:15088 -');
    const announced = meshOf(instance({ applicationTunnel: { protocol: 1, port: 15088 } }), gateway, server);
    assert.equal(ask(announced, '10.0.0.2:80'), '10.0.0.9:15088 - announcing 10.0.0.2:80');
  });

  test('announces a host name by an address of the service, IPv4 and its own network first', () => {
    const tunnelled = instance({ applicationTunnel: { protocol: 1, port: 15088 } });
    const vips = ['remote/10.5.0.1', '/2001:db8:1::1', '/10.1.0.1'];
    const state = meshOf(tunnelled, gateway, service('web', { vips, waypoint: byIp }));
    assert.equal(ask(state, 'web.default.svc:80'), '10.0.0.9:15088 web announcing 10.1.0.1:80');
    const headless = meshOf(tunnelled, gateway, service('web', { waypoint: byIp }));
    assert.equal(ask(headless, 'web.default.svc:80'), '503 UNKNOWN_SERVICE');
  });
});

describe('the service of an inbound connection', () => {
  const state = meshOf(
    workload('web-1', {
      ips: ['10.0.0.2'],
      services: { 'default/a.default.svc': {}, 'default/b.default.svc': { 80: 9090 } },
    }),
    service('a', { ports: { 80: 8080 } }),
    service('b', { ports: { 80: 0 } }),
  );
  const pod = getWorkload(state, 'web-1');

  test('is the one the client named, if the pod belongs to it', () => {
    assert.equal(guessInboundService(state, pod, 8080, 'b.default.svc')?.name, 'b');
    assert.equal(guessInboundService(state, pod, 8080, 'c.default.svc')?.name, 'a');
  });

  test('is else the first that has this target port', () => {
    assert.equal(guessInboundService(state, pod, 8080)?.name, 'a');
    assert.equal(guessInboundService(state, pod, 9090)?.name, 'b');
    assert.equal(guessInboundService(state, pod, 7)?.name, undefined);
  });
});
