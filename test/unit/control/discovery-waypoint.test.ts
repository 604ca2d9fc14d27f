/** Waypoint binding: which Gateway is a waypoint, what may use it, what it takes, and what authors are told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { Action, AuthorizationSchema } from '../../../api/gen/istio/security/authorization_pb.js';
import { ApplicationTunnel_Protocol } from '../../../api/gen/istio/workload/workload_pb.js';
import { canaryWeight } from '../../../control/discovery/waypoint-binding.ts';
import { gatewayText, TestMesh, yamlOf } from '../../support/mesh.ts';

interface GatewayText {
  name?: string;
  namespace?: string;
  traffic?: string;
  annotations?: object;
  className?: string;
  listeners?: object[];
  allowed?: object;
  addresses?: object[];
}

const IP = [{ type: 'IPAddress', value: '10.96.1.1' }];
const CLASS = yamlOf(
  'gateway.networking.k8s.io/v1',
  'GatewayClass',
  { name: 'istio-waypoint' },
  { spec: { controllerName: 'istio.io/mesh-controller' } },
);

function gateway(text: GatewayText = {}): string {
  const { name = 'wp', namespace = 'shop', traffic, annotations = {}, className = 'istio-waypoint', addresses } = text;
  const labels = traffic === undefined ? {} : { 'istio.io/waypoint-for': traffic };
  const hbone = { name: 'mesh', port: 15008, protocol: 'HBONE' };
  const allowed = text.allowed === undefined ? {} : { allowedRoutes: { namespaces: text.allowed } };
  const listeners = text.listeners ?? [{ ...hbone, ...allowed }];
  return yamlOf(
    'gateway.networking.k8s.io/v1',
    'Gateway',
    { name, namespace, labels, annotations },
    { spec: { gatewayClassName: className, listeners }, status: { addresses: addresses ?? IP } },
  );
}

const USE = { 'istio.io/use-waypoint': 'wp' };
const FROM_SHOP = { ...USE, 'istio.io/use-waypoint-namespace': 'shop' };
const WEB = 'shop/web.shop.svc.cluster.local';

function service(labels: object = {}, namespace = 'shop', annotations: object = {}, spec: object = {}): string {
  const full = { clusterIP: '10.96.0.1', selector: { app: 'web' }, ports: [{ port: 80 }], ...spec };
  return yamlOf('v1', 'Service', { name: 'web', namespace, labels, annotations }, { spec: full });
}

function pod(labels: object = {}, namespace = 'shop'): string {
  const carried = { app: 'web', ...labels };
  return yamlOf('v1', 'Pod', { name: 'p', namespace, labels: carried }, { spec: {}, status: { podIP: '10.0.0.1' } });
}

function namespaceOf(name: string, labels: object = {}, annotations: object = {}): string {
  return yamlOf('v1', 'Namespace', { name, labels, annotations });
}

function bound(mesh: TestMesh, key = WEB): string | undefined {
  return gatewayText(mesh.service(key).waypoint);
}

const condition = (mesh: TestMesh, key = 'Service/shop/web'): string | undefined =>
  mesh.condition(key, 'istio.io/WaypointBound');

test('a waypoint counts only from the moment it has an address, and from then on (WaypointConfiguredOnlyWhenReady)', () => {
  const mesh = new TestMesh();
  mesh.add(service(USE), gateway({ addresses: [] }));
  assert.equal(bound(mesh), undefined);
  assert.equal(condition(mesh), 'False WaypointIsNotReady');
  assert.deepEqual(mesh.add(gateway()), [WEB]);
  assert.equal(bound(mesh), '/10.96.1.1:15008');
  assert.equal(condition(mesh), 'True WaypointAccepted');
});

test('a name that means no Gateway leaves the traffic direct, also where the namespace has a waypoint (TestBogusUseWaypoint)', () => {
  const mesh = new TestMesh();
  mesh.add(namespaceOf('shop', USE), gateway(), service({ 'istio.io/use-waypoint': 'bogus' }));
  assert.equal(bound(mesh), undefined);
  assert.equal(condition(mesh), 'False WaypointIsNotReady');
});

test('a host name is preferred to an address, and the port is that of the HBONE listener', () => {
  const mesh = new TestMesh({ network: 'n1' });
  const host = { type: 'Hostname', value: 'wp.shop.svc.cluster.local' };
  mesh.add(service(USE), gateway({ addresses: [...IP, host] }));
  assert.equal(bound(mesh), 'shop/wp.shop.svc.cluster.local:15008');
  mesh.add(gateway({ listeners: [{ name: 'm', port: 15009, protocol: 'HBONE' }] }));
  assert.equal(bound(mesh), 'n1/10.96.1.1:15009');
});

const GATEWAYS: [name: string, gateway: GatewayText, extra: string, expected: boolean][] = [
  ['of a class with the mesh controller', { listeners: [] }, CLASS, true],
  ['of an unknown class with an HBONE listener', { className: 'other' }, CLASS, true],
  [
    'of another class without',
    { className: 'other', listeners: [{ name: 'h', port: 80, protocol: 'HTTP' }] },
    CLASS,
    false,
  ],
  ['between networks', { className: 'istio-east-west' }, CLASS, false],
  ['with an address that is none', { addresses: [{ type: 'IPAddress', value: 'x' }] }, CLASS, false],
];
for (const [name, text, extra, expected] of GATEWAYS) {
  test(`a Gateway ${name} is ${expected ? 'a' : 'no'} waypoint`, () => {
    const mesh = new TestMesh();
    mesh.add(service(USE), gateway(text), extra);
    assert.equal(bound(mesh) !== undefined, expected);
  });
}

test('a class that changes its controller makes its Gateways waypoints', () => {
  const mesh = new TestMesh();
  mesh.add(service(USE), gateway({ listeners: [] }));
  assert.equal(bound(mesh), undefined);
  mesh.add(CLASS);
  assert.notEqual(bound(mesh), undefined);
});

/** Labels of the namespace, of the service; what is bound; the condition. */
const REFERENCES: [name: string, namespace: object, object: object, bound: boolean, condition: string | undefined][] = [
  ['nothing', {}, {}, false, undefined],
  ['the service', {}, USE, true, 'True WaypointAccepted'],
  ['its namespace', USE, {}, true, 'True WaypointAccepted'],
  ['the namespace, the service opts out', USE, { 'istio.io/use-waypoint': 'none' }, false, undefined],
  ['the namespace says none', { 'istio.io/use-waypoint': 'none' }, {}, false, undefined],
  ['an empty name is no name', USE, { 'istio.io/use-waypoint': '' }, true, 'True WaypointAccepted'],
];
for (const [name, namespace, object, expected, said] of REFERENCES) {
  test(`a service with a reference from ${name} is ${expected ? '' : 'not '}bound (ServiceAttachedWaypoints)`, () => {
    const mesh = new TestMesh();
    mesh.add(namespaceOf('shop', namespace), gateway(), service(object));
    assert.equal(bound(mesh) !== undefined, expected);
    assert.equal(condition(mesh), said);
  });
}

const TRAFFIC: [traffic: string | undefined, service: boolean, workload: boolean][] = [
  [undefined, true, false],
  ['service', true, false],
  ['workload', false, true],
  ['all', true, true],
  ['none', false, false],
  ['nonsense', true, false],
];
for (const [traffic, toService, toWorkload] of TRAFFIC) {
  test(`a waypoint for ${traffic} takes what it says (WaypointForWorkloadTraffic)`, () => {
    const mesh = new TestMesh();
    mesh.add(gateway(traffic === undefined ? {} : { traffic }), service(USE), pod(USE));
    assert.equal(bound(mesh) !== undefined, toService);
    assert.equal(mesh.pod('shop/p').waypoint !== undefined, toWorkload);
    assert.equal(condition(mesh), toService ? 'True WaypointAccepted' : 'False UnsupportedTrafficType');
  });
}

test('traffic that the waypoint of the namespace does not take is passed over in silence', () => {
  const mesh = new TestMesh();
  mesh.add(namespaceOf('shop', USE), gateway({ traffic: 'workload' }), service(), pod());
  assert.equal(bound(mesh), undefined);
  assert.equal(condition(mesh), undefined);
  assert.equal(gatewayText(mesh.pod('shop/p').waypoint), '/10.96.1.1:15008');
});

test('the class says what its waypoints take, where they say nothing themselves', () => {
  const mesh = new TestMesh();
  const labelled = yamlOf(
    'gateway.networking.k8s.io/v1',
    'GatewayClass',
    { name: 'istio-waypoint', labels: { 'istio.io/waypoint-for': 'all' } },
    { spec: { controllerName: 'istio.io/mesh-controller' } },
  );
  mesh.add(labelled, gateway(), pod(USE));
  assert.notEqual(mesh.pod('shop/p').waypoint, undefined);
  mesh.add(gateway({ traffic: 'service' }));
  assert.equal(mesh.pod('shop/p').waypoint, undefined);
});

const ROUTES: [name: string, allowed: object | undefined, expected: boolean][] = [
  ['nothing, which means the same namespace', undefined, false],
  ['Same', { from: 'Same' }, false],
  ['All', { from: 'All' }, true],
  ['None', { from: 'None' }, false],
  ['a matching Selector', { from: 'Selector', selector: { matchLabels: { team: 'a' } } }, true],
  [
    'a Selector with an expression',
    { from: 'Selector', selector: { matchExpressions: [{ key: 'team', operator: 'In', values: ['a', 'b'] }] } },
    true,
  ],
  ['another Selector', { from: 'Selector', selector: { matchLabels: { team: 'z' } } }, false],
];
for (const [name, allowed, expected] of ROUTES) {
  test(`allowedRoutes ${name} ${expected ? 'admits' : 'refuses'} another namespace (MakeAllowedRoutes)`, () => {
    const mesh = new TestMesh();
    const open = allowed === undefined ? {} : { allowed };
    mesh.add(gateway(open), namespaceOf('other', { team: 'a' }), service(FROM_SHOP, 'other'));
    assert.equal(bound(mesh, 'other/web.other.svc.cluster.local') !== undefined, expected);
    assert.equal(condition(mesh, 'Service/other/web'), expected ? 'True WaypointAccepted' : 'False AttachmentDenied');
  });
}

test('labels of a namespace that change open and close a waypoint for it', () => {
  const mesh = new TestMesh();
  const allowed = { from: 'Selector', selector: { matchLabels: { team: 'a' } } };
  mesh.add(
    gateway({ allowed, traffic: 'all' }),
    namespaceOf('other'),
    service(FROM_SHOP, 'other'),
    pod(FROM_SHOP, 'other'),
  );
  const isBound = (): boolean[] => [
    bound(mesh, 'other/web.other.svc.cluster.local') !== undefined,
    mesh.pod('other/p').waypoint !== undefined,
  ];
  assert.deepEqual(isBound(), [false, false]);
  mesh.add(namespaceOf('other', { team: 'a' }));
  assert.deepEqual(isBound(), [true, true]);
  mesh.add(namespaceOf('other', { team: 'b' }));
  assert.deepEqual(isBound(), [false, false]);
});

test('a label of the namespace binds its workloads, and a waypoint that moves is followed (UpdateWaypointForWorkload)', () => {
  const mesh = new TestMesh();
  mesh.add(namespaceOf('shop', USE), gateway({ traffic: 'all' }), pod(), service());
  assert.equal(gatewayText(mesh.pod('shop/p').waypoint), '/10.96.1.1:15008');
  const moved = mesh.add(gateway({ traffic: 'all', addresses: [{ type: 'IPAddress', value: '10.96.1.9' }] }));
  assert.deepEqual(moved, ['Kubernetes//Pod/shop/p', WEB]);
  assert.equal(gatewayText(mesh.pod('shop/p').waypoint), '/10.96.1.9:15008');
  mesh.remove('Gateway/shop/wp');
  assert.equal(mesh.pod('shop/p').waypoint, undefined);
  assert.equal(condition(mesh), 'False WaypointIsNotReady');
  mesh.add(namespaceOf('shop'));
  assert.equal(condition(mesh), undefined);
});

test('a status that changes nothing for the mesh touches no resource', () => {
  const mesh = new TestMesh();
  mesh.add(gateway(), service(USE), pod(USE));
  const again = gateway().replace('"namespace":"shop"', '"namespace":"shop","generation":7');
  assert.deepEqual(mesh.add(again), []);
});

test('services and pods of a waypoint are never behind one (ServiceOwningWaypoints)', () => {
  const mesh = new TestMesh();
  const own = { 'gateway.networking.k8s.io/gateway-name': 'wp' };
  mesh.add(namespaceOf('shop', USE), gateway({ traffic: 'all' }), service({ ...own, ...USE }), pod({ ...own, ...USE }));
  assert.equal(bound(mesh), undefined);
  assert.equal(mesh.pod('shop/p').waypoint, undefined);
  assert.equal(condition(mesh), undefined);
  mesh.add(service({ 'gateway.istio.io/managed': 'istio.io-eastwest-controller' }));
  assert.equal(bound(mesh), undefined);
});

const { NONE, PROXY } = ApplicationTunnel_Protocol;
const BINDINGS: [text: string, expected: [ApplicationTunnel_Protocol, number] | undefined][] = [
  ['PROXY/15088', [PROXY, 15088]],
  ['PROXY', [PROXY, 15077]],
  ['NONE', [NONE, 15077]],
  ['NONE/80', [NONE, 80]],
  ['PROXY/99999', undefined],
  ['QUIC', undefined],
  ['', undefined],
];
for (const [text, expected] of BINDINGS) {
  test(`inbound binding ${JSON.stringify(text)} of a waypoint's pods (WaypointInboundBinding)`, () => {
    const mesh = new TestMesh();
    const listeners = [
      { name: 'mesh', port: 15008, protocol: 'HBONE' },
      { name: 'proxy', port: 15077, protocol: 'istio.io/PROXY' },
    ];
    const annotations = { 'ambient.istio.io/waypoint-inbound-binding': text };
    mesh.add(pod({ 'gateway.networking.k8s.io/gateway-name': 'wp' }), gateway({ listeners, annotations }));
    const tunnel = mesh.pod('shop/p').applicationTunnel;
    assert.deepEqual(tunnel && [tunnel.protocol, tunnel.port], expected);
  });
}

const CANARY = { ...USE, 'istio.io/use-waypoint-canary': 'next' };
const WEIGHT = 'istio.io/use-waypoint-canary-weight';
const CANARIES: [name: string, labels: object, weight: object, shares: [string, number][], condition: string][] = [
  [
    'a weight',
    CANARY,
    { [WEIGHT]: '20' },
    [
      ['/10.96.1.1:15008', 80],
      ['/10.96.1.2:15008', 20],
    ],
    'True WaypointAccepted',
  ],
  [
    'no weight',
    CANARY,
    {},
    [
      ['/10.96.1.1:15008', 100],
      ['/10.96.1.2:15008', 0],
    ],
    'True WaypointAccepted',
  ],
  [
    'everything',
    CANARY,
    { [WEIGHT]: '100' },
    [
      ['/10.96.1.1:15008', 0],
      ['/10.96.1.2:15008', 100],
    ],
    'True WaypointAccepted',
  ],
  ['a weight that is none', CANARY, { [WEIGHT]: '120' }, [], 'True CanaryInvalidWeight'],
  [
    'the same waypoint',
    { ...USE, 'istio.io/use-waypoint-canary': 'wp' },
    { [WEIGHT]: '20' },
    [],
    'True CanarySameAsPrimary',
  ],
  [
    'a waypoint that is not there',
    { ...USE, 'istio.io/use-waypoint-canary': 'x' },
    { [WEIGHT]: '20' },
    [],
    'True WaypointIsNotReady',
  ],
  [
    'a waypoint for workloads',
    { ...USE, 'istio.io/use-waypoint-canary': 'w' },
    { [WEIGHT]: '20' },
    [],
    'True UnsupportedTrafficType',
  ],
];
for (const [name, labels, weight, shares, said] of CANARIES) {
  test(`a canary with ${name} (GetUseWaypointCanary)`, () => {
    const mesh = new TestMesh();
    const at = (value: string): object[] => [{ type: 'IPAddress', value }];
    mesh.add(
      gateway(),
      gateway({ name: 'next', addresses: at('10.96.1.2') }),
      gateway({ name: 'w', traffic: 'workload' }),
    );
    mesh.add(service(labels, 'shop', weight));
    const weighted = mesh.service(WEB).weightedWaypoints.map((one) => [gatewayText(one.destination), one.weight]);
    assert.deepEqual(weighted, shares);
    assert.equal(bound(mesh), '/10.96.1.1:15008', 'the waypoint stays');
    assert.equal(condition(mesh), said);
  });
}

test('a canary of the namespace counts for services that take their waypoint from it', () => {
  const mesh = new TestMesh();
  const next = gateway({ name: 'next', addresses: [{ type: 'IPAddress', value: '10.96.1.2' }] });
  mesh.add(namespaceOf('shop', CANARY, { [WEIGHT]: '5' }), gateway(), next, service());
  assert.deepEqual(
    mesh.service(WEB).weightedWaypoints.map((one) => one.weight),
    [95, 5],
  );
  mesh.add(service(USE));
  assert.deepEqual(mesh.service(WEB).weightedWaypoints, []);
});

const WEIGHTS: [text: string | undefined, expected: number | undefined][] = [
  [undefined, 0],
  ['0', 0],
  ['7', 7],
  ['100', 100],
  ['101', undefined],
  ['-1', undefined],
  ['1.5', undefined],
  ['', undefined],
  ['07', undefined],
];
for (const [text, expected] of WEIGHTS) {
  test(`canary weight ${JSON.stringify(text)} (GetCanaryWeight)`, () => assert.equal(canaryWeight(text), expected));
}

const INGRESS: [namespace: object, service: object, expected: boolean][] = [
  [{}, {}, false],
  [{}, { 'istio.io/ingress-use-waypoint': 'true' }, true],
  [{ 'istio.io/ingress-use-waypoint': 'true' }, {}, true],
  [{ 'istio.io/ingress-use-waypoint': 'true' }, { 'istio.io/ingress-use-waypoint': 'false' }, false],
];
for (const [namespace, labels, expected] of INGRESS) {
  test(`ingress ${JSON.stringify([namespace, labels])} ${expected ? 'uses' : 'bypasses'} the waypoint (IngressUseWaypoint)`, () => {
    const mesh = new TestMesh();
    mesh.add(namespaceOf('shop', namespace), gateway(), service({ ...USE, ...labels }));
    assert.equal(mesh.service(WEB).ingressUseWaypoint, expected);
  });
}

test('ingress uses no waypoint where there is none', () => {
  const mesh = new TestMesh();
  mesh.add(service({ 'istio.io/ingress-use-waypoint': 'true' }));
  assert.equal(mesh.service(WEB).ingressUseWaypoint, false);
});

test('an ExternalName service that asks for a waypoint is told to ask elsewhere', () => {
  const mesh = new TestMesh();
  mesh.add(gateway(), service(USE, 'shop', {}, { type: 'ExternalName', externalName: 'x.example', selector: {} }));
  assert.equal(mesh.findService(WEB), undefined);
  assert.equal(condition(mesh), 'False UnsupportedTrafficType');
});

test('what is behind a waypoint is found by the address of the waypoint (ServicesForWaypoint, WorkloadsForWaypoint)', () => {
  const mesh = new TestMesh({ network: 'n1' });
  mesh.add(gateway({ traffic: 'all' }), service(USE), pod(USE));
  assert.deepEqual(mesh.find(WEB)?.waypoints, ['n1/10.96.1.1']);
  assert.deepEqual(mesh.find('Kubernetes//Pod/shop/p')?.waypoints, ['n1/10.96.1.1']);
});

test('with the setting, what is behind a waypoint names a policy that allows the waypoint alone (DefaultAllowWaypointPolicy)', () => {
  const POLICY = 'shop/istio_allow_waypoint_shop_wp';
  const own = (name: string, account: string): string =>
    yamlOf(
      'v1',
      'Pod',
      { name, namespace: 'shop', labels: { 'gateway.networking.k8s.io/gateway-name': 'wp' } },
      { spec: { serviceAccountName: account }, status: { podIP: '10.0.0.2' } },
    );
  const mesh = new TestMesh({ allowOnlyWaypoints: true });
  const named = (): string[] => mesh.pod('shop/p').authorizationPolicies;
  mesh.add(gateway(), service(USE), pod());
  assert.deepEqual(named(), [], 'a waypoint without pods is nobody yet');
  mesh.add(own('wp-1', 'wp'), own('wp-2', 'wp-canary'));
  assert.deepEqual(named(), [POLICY]);
  const resource = mesh.find(POLICY);
  const authorization = resource && fromBinary(AuthorizationSchema, resource.bytes);
  assert.equal(authorization?.action, Action.ALLOW);
  assert.deepEqual(
    authorization?.groups[0]?.rules[0]?.matches[0]?.principals.map((principal) => principal.matchType.value),
    ['cluster.local/ns/shop/sa/wp', 'cluster.local/ns/shop/sa/wp-canary'],
  );
  assert.deepEqual(mesh.pod('shop/wp-1').authorizationPolicies, [], 'the waypoint itself stays open');
  mesh.add(service());
  assert.deepEqual(named(), []);
  mesh.add(service(USE));
  mesh.remove('Pod/shop/wp-1', 'Pod/shop/wp-2');
  assert.deepEqual(named(), []);
  assert.equal(mesh.find(POLICY), undefined);
  const off = new TestMesh();
  off.add(gateway(), service(USE), pod(), own('wp-1', 'wp'));
  assert.deepEqual(off.pod('shop/p').authorizationPolicies, []);
});
