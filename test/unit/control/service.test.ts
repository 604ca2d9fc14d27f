/** Service -> istio.workload.Service (ServiceServices): addresses, ports, protocols, endpoint preference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AppProtocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type Service,
} from '../../../api/gen/istio/workload/workload_pb.js';
import { buildService } from '../../../control/discovery/service.ts';
import { ipFromBytes } from '../../../core/ip.ts';
import { objectOf, problemsOf, SETTINGS } from '../../support/control.ts';

function serviceYaml(spec: object, metadata: object = {}): string {
  const full = { clusterIP: '10.96.0.1', selector: { app: 'web' }, ports: [{ port: 80 }], ...spec };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', ...metadata },
    spec: full,
  });
}

const NOT_BOUND = { waypoint: undefined, canary: undefined, condition: undefined };

function build(spec: object, metadata?: object, namespaceAnnotations?: object): Service | undefined {
  const namespace =
    namespaceAnnotations === undefined
      ? undefined
      : objectOf(
          'Namespace',
          JSON.stringify({
            apiVersion: 'v1',
            kind: 'Namespace',
            metadata: { name: 'shop', annotations: namespaceAnnotations },
          }),
        );
  const settings = { ...SETTINGS, network: 'net1' };
  return buildService(objectOf('Service', serviceYaml(spec, metadata)), namespace, NOT_BOUND, settings);
}

test('a service has its hostname, its addresses in the network of the source, and is canonical', () => {
  const service = build({ clusterIPs: ['10.96.0.1', 'fd00::1'], ipFamilies: ['IPv4', 'IPv6'] });
  assert.equal(service?.hostname, 'web.shop.svc.cluster.local');
  assert.deepEqual(
    service?.addresses.map(({ network, address }) => [network, ipFromBytes(address)]),
    [
      ['net1', '10.96.0.1'],
      ['net1', 'fd00::1'],
    ],
  );
  assert.equal(service?.canonical, true);
  assert.equal(service?.ipFamilies, IPFamilies.DUAL);
});

test('a headless service has no address (EmptyVIPsExcluded)', () => {
  assert.deepEqual(build({ clusterIP: 'None' })?.addresses, []);
  assert.deepEqual(build({ clusterIP: '' })?.addresses, []);
});

test('a service that renames an outside host is not announced', () => {
  assert.equal(build({ type: 'ExternalName', externalName: 'x.example' }), undefined);
});

test('a named target port is 0, other protocols than TCP are left out', () => {
  const ports = [
    { name: 'a', port: 80, targetPort: 'http' },
    { name: 'b', port: 81, targetPort: 8081 },
    { name: 'c', port: 53, protocol: 'UDP' },
    { name: 'd', port: 53 },
  ];
  assert.deepEqual(
    build({ ports })?.ports.map((port) => [port.servicePort, port.targetPort]),
    [
      [80, 0],
      [81, 8081],
      [53, 53],
    ],
  );
});

const PROTOCOLS: [name: string, appProtocol: string | undefined, expected: AppProtocol][] = [
  ['', undefined, AppProtocol.UNKNOWN],
  ['web', undefined, AppProtocol.UNKNOWN],
  ['http', undefined, AppProtocol.HTTP11],
  ['http-admin', undefined, AppProtocol.HTTP11],
  ['http2-x', undefined, AppProtocol.HTTP2],
  ['grpc', undefined, AppProtocol.GRPC],
  ['grpc-web', undefined, AppProtocol.HTTP11],
  ['https', undefined, AppProtocol.TLS],
  ['tls-x', undefined, AppProtocol.TLS],
  ['mysql', undefined, AppProtocol.TCP],
  ['tcp', 'http', AppProtocol.HTTP11],
  ['x', 'kubernetes.io/h2c', AppProtocol.HTTP2],
  ['http', 'example.com/own', AppProtocol.HTTP11],
];
for (const [name, appProtocol, expected] of PROTOCOLS) {
  test(`protocol of a port named ${JSON.stringify(name)} with appProtocol ${appProtocol}`, () => {
    assert.equal(build({ ports: [{ name, port: 80, appProtocol }] })?.ports[0]?.appProtocol, expected);
  });
}

const { NETWORK, REGION, ZONE, SUBZONE, NODE } = LoadBalancing_Scope;
const ANNOTATION = 'networking.istio.io/traffic-distribution';
const PREFERENCES: [
  name: string,
  spec: object,
  service: object,
  namespace: object,
  mode: LoadBalancing_Mode | undefined,
  scopes: LoadBalancing_Scope[],
][] = [
  ['none', {}, {}, {}, undefined, []],
  [
    'local traffic only',
    { internalTrafficPolicy: 'Local', trafficDistribution: 'PreferClose' },
    {},
    {},
    LoadBalancing_Mode.STRICT,
    [NODE],
  ],
  ['PreferClose', { trafficDistribution: 'PreferClose' }, {}, {}, LoadBalancing_Mode.FAILOVER, [NETWORK, REGION, ZONE]],
  [
    'PreferSameZone',
    { trafficDistribution: 'PreferSameZone' },
    {},
    {},
    LoadBalancing_Mode.FAILOVER,
    [NETWORK, REGION, ZONE],
  ],
  [
    'PreferSameNode',
    { trafficDistribution: 'PreferSameNode' },
    {},
    {},
    LoadBalancing_Mode.FAILOVER,
    [NETWORK, REGION, ZONE, SUBZONE, NODE],
  ],
  [
    'annotation of the service',
    {},
    { [ANNOTATION]: 'PreferSameNode' },
    { [ANNOTATION]: 'PreferClose' },
    LoadBalancing_Mode.FAILOVER,
    [NETWORK, REGION, ZONE, SUBZONE, NODE],
  ],
  [
    'annotation of the namespace',
    {},
    {},
    { [ANNOTATION]: 'PreferClose' },
    LoadBalancing_Mode.FAILOVER,
    [NETWORK, REGION, ZONE],
  ],
  [
    'Any of the service over the namespace',
    {},
    { [ANNOTATION]: 'Any' },
    { [ANNOTATION]: 'PreferClose' },
    undefined,
    [],
  ],
];
for (const [name, spec, annotations, namespace, mode, scopes] of PREFERENCES) {
  test(`endpoint preference: ${name}`, () => {
    const balancing = build(spec, { annotations }, namespace)?.loadBalancing;
    assert.equal(balancing?.mode, mode);
    assert.deepEqual(balancing?.routingPreference ?? [], scopes);
  });
}

test('publishing not-ready addresses allows unhealthy endpoints', () => {
  assert.equal(
    build({ publishNotReadyAddresses: true })?.loadBalancing?.healthPolicy,
    LoadBalancing_HealthPolicy.ALLOW_ALL,
  );
  assert.equal(build({})?.loadBalancing, undefined);
});

test('a service is refused with every mistake it has', () => {
  const ports = [{ port: 0 }, { port: 80 }, { port: 80 }, { port: 81, targetPort: 'Bad_Name' }];
  const reasons = problemsOf(serviceYaml({ clusterIP: 'x', ports })).map((problem) => problem.replace(/^\d+: /, ''));
  assert.equal(reasons.length, 3);
  assert.match(reasons[0] ?? '', /^spec\.clusterIP must be an IP address or None/);
  assert.match(reasons[1] ?? '', /^spec\.ports\[0\]\.port must be a whole number from 1 to 65535/);
  assert.match(reasons[2] ?? '', /^spec\.ports\[3\]\.targetPort must be a port number or the name/);
  assert.match(problemsOf(serviceYaml({ ports: [{ port: 80 }, { port: 80 }] }))[0] ?? '', /TCP\/80 is listed twice/);
});
