/** ServiceEntry: its hosts as services, who answers for a host, who sees it, and the endpoints it brings. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AppProtocol,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  ServiceVisibility,
} from '../../../api/gen/istio/workload/workload_pb.js';
import { ipFromBytes } from '../../../core/ip.ts';
import { membershipOf, TestMesh, yamlOf } from '../../support/mesh.ts';

interface EntryText {
  name?: string;
  namespace?: string;
  labels?: object;
  annotations?: object;
  created?: string;
  status?: object;
}

const PORTS = [{ number: 443, name: 'tls', protocol: 'TLS' }];

function entry(spec: object = {}, text: EntryText = {}): string {
  const { name = 'ext', namespace = 'shop', labels = {}, annotations = {}, created, status } = text;
  return yamlOf(
    'networking.istio.io/v1',
    'ServiceEntry',
    { name, namespace, labels, annotations, ...(created === undefined ? {} : { creationTimestamp: created }) },
    {
      spec: { hosts: ['ext.example'], ports: PORTS, resolution: 'DNS', ...spec },
      ...(status === undefined ? {} : { status }),
    },
  );
}

function meshConfig(visibility: object): string {
  const mesh = JSON.stringify({ serviceEntryVisibility: visibility });
  return yamlOf('v1', 'ConfigMap', { name: 'istio', namespace: 'istio-system' }, { data: { mesh } });
}

const HOST = 'shop/ext.example';
const UID = 'Kubernetes/networking.istio.io/ServiceEntry/shop/ext/';

function addresses(mesh: TestMesh, name = HOST): string[] {
  return mesh.service(name).addresses.map(({ network, address, length }) => {
    const block = length === undefined ? '' : `/${length}`;
    return `${network}|${ipFromBytes(address)}${block}`;
  });
}

test('every host of an entry is a service with the addresses and ports of the entry (ServiceEntryServices)', () => {
  const mesh = new TestMesh({ network: 'n1' });
  const ports = [
    { number: 80, name: 'web', protocol: 'HTTP', targetPort: 8080 },
    { number: 81, name: 'g', protocol: 'GRPC' },
    { number: 53, name: 'dns', protocol: 'UDP' },
  ];
  const spec = { hosts: ['a.example', 'b.example'], addresses: ['192.0.2.1', '198.51.100.7/24'], ports };
  mesh.add(entry({ ...spec, resolution: 'STATIC', subjectAltNames: ['spiffe://x/ns/a/sa/b'] }));
  for (const name of ['shop/a.example', 'shop/b.example']) {
    assert.deepEqual(addresses(mesh, name), ['n1|192.0.2.1', 'n1|198.51.100.0/24']);
    const { ports: announced, subjectAltNames, canonical, visibility } = mesh.service(name);
    assert.deepEqual(
      announced.map((port) => [port.servicePort, port.targetPort, port.appProtocol]),
      [
        [80, 8080, AppProtocol.HTTP11],
        [81, 81, AppProtocol.GRPC],
      ],
    );
    assert.deepEqual(subjectAltNames, ['spiffe://x/ns/a/sa/b']);
    assert.equal(canonical, true);
    assert.equal(visibility, ServiceVisibility.PUBLIC);
  }
  assert.deepEqual(mesh.find('shop/a.example')?.aliases, ['n1/192.0.2.1', 'n1/198.51.100.0/24']);
});

test('an entry that is not resolved lets every connection keep its destination', () => {
  const mesh = new TestMesh();
  mesh.add(entry({ resolution: 'NONE', addresses: ['192.0.2.0/24'] }));
  const { loadBalancing } = mesh.service(HOST);
  assert.equal(loadBalancing?.mode, LoadBalancing_Mode.PASSTHROUGH);
  assert.equal(loadBalancing?.healthPolicy, LoadBalancing_HealthPolicy.ALLOW_ALL);
  assert.deepEqual(mesh.names(), [HOST], 'it has no endpoints');
});

test('the annotation for traffic distribution counts on entries too', () => {
  const mesh = new TestMesh();
  mesh.add(entry({}, { annotations: { 'networking.istio.io/traffic-distribution': 'PreferClose' } }));
  const { NETWORK, REGION, ZONE } = LoadBalancing_Scope;
  assert.deepEqual(mesh.service(HOST).loadBalancing?.routingPreference, [NETWORK, REGION, ZONE]);
});

test('a host that is resolved by DNS has one workload of that name, each host its own', () => {
  const mesh = new TestMesh();
  mesh.add(entry({ hosts: ['ext.example', 'two.example'] }));
  const workload = mesh.workload(`${UID}ext.example`);
  assert.equal(workload.hostname, 'ext.example');
  assert.deepEqual(workload.addresses, []);
  assert.deepEqual(Object.keys(workload.services), [HOST]);
  assert.deepEqual(Object.keys(mesh.workload(`${UID}two.example`).services), ['shop/two.example']);
  mesh.add(entry({ hosts: ['two.example'] }));
  assert.equal(mesh.findWorkload(`${UID}ext.example`), undefined);
  assert.equal(mesh.findService(HOST), undefined);
});

test('endpoints of an entry are workloads with their own ports, weight, place and identity (ServiceEntryWorkloads)', () => {
  const mesh = new TestMesh();
  const endpoints = [
    {
      address: '192.0.2.1',
      ports: { tls: 8443 },
      weight: 7,
      locality: 'r/z/s',
      serviceAccount: 'vm',
      labels: { app: 'db', version: 'v9', 'networking.istio.io/tunnel': 'http' },
    },
    { address: '192.0.2.2' },
    { address: '192.0.2.2', ports: { tls: 1 } },
    { address: 'unix:///run/x' },
  ];
  mesh.add(entry({ resolution: 'STATIC', endpoints }));
  const first = mesh.workload(`${UID}192.0.2.1`);
  assert.deepEqual(membershipOf(first, HOST), ['443:8443']);
  assert.equal(first.capacity, 7);
  assert.deepEqual([first.locality?.region, first.locality?.zone, first.locality?.subzone], ['r', 'z', 's']);
  assert.equal(first.serviceAccount, 'vm');
  assert.equal(first.nativeTunnel, true);
  assert.deepEqual([first.canonicalName, first.canonicalRevision], ['db', 'v9']);
  assert.deepEqual(
    membershipOf(mesh.workload(`${UID}192.0.2.2`), HOST),
    ['443:443'],
    'the first of equal addresses counts',
  );
  assert.equal(mesh.names().length, 3, 'a socket in the file system is no workload of the mesh');
  mesh.add(entry({ resolution: 'STATIC', endpoints: endpoints.slice(1) }));
  assert.equal(mesh.findWorkload(`${UID}192.0.2.1`), undefined);
  mesh.remove('ServiceEntry/shop/ext');
  assert.deepEqual(mesh.names(), []);
});

test('an entry with a selector finds pods and WorkloadEntries of its namespace (ServiceEntry, with Kubernetes pods)', () => {
  const mesh = new TestMesh();
  const pod = (namespace: string): string =>
    yamlOf('v1', 'Pod', { name: 'p', namespace, labels: { app: 'db' } }, { spec: {}, status: { podIP: '10.0.0.1' } });
  const vm = yamlOf(
    'networking.istio.io/v1',
    'WorkloadEntry',
    { name: 'vm', namespace: 'shop' },
    { spec: { address: '192.0.2.9', labels: { app: 'db' }, ports: { tls: 9443 } } },
  );
  const ports = [{ number: 443, name: 'tls', protocol: 'TLS', targetPort: 8443 }];
  mesh.add(
    entry({ resolution: 'STATIC', ports, workloadSelector: { labels: { app: 'db' } } }),
    pod('shop'),
    pod('other'),
    vm,
  );
  assert.deepEqual(membershipOf(mesh.pod('shop/p'), HOST), ['443:8443']);
  assert.deepEqual(Object.keys(mesh.pod('other/p').services), []);
  const uid = 'Kubernetes/networking.istio.io/WorkloadEntry/shop/vm';
  assert.deepEqual(membershipOf(mesh.workload(uid), HOST), ['443:9443']);
  mesh.add(entry({ resolution: 'STATIC', ports, workloadSelector: { labels: { app: 'other' } } }));
  assert.deepEqual(Object.keys(mesh.pod('shop/p').services), []);
  assert.deepEqual(Object.keys(mesh.workload(uid).services), []);
});

test('of two entries for a host in a namespace the oldest counts, and its endpoints alone (Duplicates)', () => {
  const mesh = new TestMesh();
  const young = entry({ addresses: ['192.0.2.2'] }, { name: 'young', created: '2026-02-01T00:00:00Z' });
  const old = entry({ addresses: ['192.0.2.1'] }, { name: 'old', created: '2026-01-01T00:00:00Z' });
  mesh.add(young);
  assert.deepEqual(addresses(mesh), ['|192.0.2.2']);
  mesh.add(old);
  assert.deepEqual(addresses(mesh), ['|192.0.2.1']);
  const uid = (name: string): string => `Kubernetes/networking.istio.io/ServiceEntry/shop/${name}/ext.example`;
  assert.notEqual(mesh.findWorkload(uid('old')), undefined);
  assert.equal(mesh.findWorkload(uid('young')), undefined);
  mesh.remove('ServiceEntry/shop/old');
  assert.deepEqual(addresses(mesh), ['|192.0.2.2']);
  assert.notEqual(mesh.findWorkload(uid('young')), undefined);
});

test('a Service wins over an entry for its host, in its namespace and for everybody (ServiceOverlap, setCanonical)', () => {
  const mesh = new TestMesh();
  const host = 'web.shop.svc.cluster.local';
  const service = yamlOf(
    'v1',
    'Service',
    { name: 'web', namespace: 'shop' },
    { spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] } },
  );
  mesh.add(
    entry({ hosts: [host], addresses: ['192.0.2.1'] }),
    entry({ hosts: [host], addresses: ['192.0.2.2'] }, { namespace: 'other' }),
  );
  assert.deepEqual(addresses(mesh, `shop/${host}`), ['|192.0.2.1']);
  mesh.add(service);
  assert.deepEqual(addresses(mesh, `shop/${host}`), ['|10.96.0.1']);
  assert.equal(mesh.findWorkload(`${UID}${host}`), undefined, 'its endpoint is not one of the Service');
  assert.equal(mesh.service(`other/${host}`).canonical, false);
  mesh.remove('Service/shop/web');
  assert.deepEqual(addresses(mesh, `shop/${host}`), ['|192.0.2.1']);
});

test('of entries in several namespaces the oldest answers for namespaces that have none (setCanonical)', () => {
  const mesh = new TestMesh();
  mesh.add(
    entry({}, { namespace: 'a', created: '2026-01-03T00:00:00Z' }),
    entry({}, { namespace: 'b', created: '2026-01-01T00:00:00Z' }),
    entry({}, { namespace: 'c' }),
  );
  const canonical = (): boolean[] =>
    ['a', 'b', 'c'].map((of) => mesh.findService(`${of}/ext.example`)?.canonical === true);
  assert.deepEqual(canonical(), [false, true, false]);
  mesh.remove('ServiceEntry/b/ext');
  assert.deepEqual(canonical(), [true, false, false]);
});

const POLICY = { visibility: 'PUBLIC', matchingRules: [{ namespaceSelector: { matchLabels: { trusted: 'yes' } } }] };

test('entries are seen by whom MeshConfig says, and every change of it is followed', () => {
  const mesh = new TestMesh();
  const trusted = (value: string): string => yamlOf('v1', 'Namespace', { name: 'shop', labels: { trusted: value } });
  mesh.add(entry(), trusted('no'));
  const applied = (): string | undefined => mesh.condition('ServiceEntry/shop/ext', 'istio.io/VisibilityApplied');
  assert.equal(applied(), undefined);
  mesh.add(meshConfig({ defaultVisibility: 'NAMESPACE', policies: [POLICY] }));
  assert.equal(mesh.service(HOST).visibility, ServiceVisibility.NAMESPACE);
  assert.equal(mesh.service(HOST).canonical, false, 'what is private shadows nothing public');
  assert.equal(mesh.find(HOST)?.privateTo, 'shop');
  assert.equal(applied(), 'True Namespace');
  mesh.add(trusted('yes'));
  assert.equal(mesh.service(HOST).visibility, ServiceVisibility.PUBLIC);
  assert.equal(mesh.service(HOST).canonical, true);
  assert.equal(applied(), 'True Public');
  mesh.add(meshConfig({ defaultVisibility: 'NONE' }));
  assert.deepEqual(mesh.names(), []);
  assert.equal(applied(), 'True None');
  mesh.remove('MeshConfig/istio-system/istio');
  assert.notEqual(mesh.findService(HOST), undefined);
  assert.equal(applied(), undefined);
});

test('a private entry leaves the host to a public one of another namespace, however young', () => {
  const mesh = new TestMesh();
  mesh.add(
    meshConfig({ defaultVisibility: 'NAMESPACE', policies: [POLICY] }),
    yamlOf('v1', 'Namespace', { name: 'open', labels: { trusted: 'yes' } }),
    entry({}, { created: '2026-01-01T00:00:00Z' }),
    entry({}, { namespace: 'open', created: '2026-01-02T00:00:00Z' }),
  );
  assert.deepEqual([mesh.service(HOST).canonical, mesh.service('open/ext.example').canonical], [false, true]);
});

test('a private entry cannot be bound to a waypoint of another namespace', () => {
  const mesh = new TestMesh();
  const gateway = (namespace: string): string =>
    yamlOf(
      'gateway.networking.k8s.io/v1',
      'Gateway',
      { name: 'wp', namespace },
      {
        spec: {
          gatewayClassName: 'istio-waypoint',
          listeners: [{ name: 'm', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces: { from: 'All' } } }],
        },
        status: { addresses: [{ value: '10.96.1.1' }] },
      },
    );
  const labels = { 'istio.io/use-waypoint': 'wp', 'istio.io/use-waypoint-namespace': 'egress' };
  mesh.add(gateway('egress'), gateway('shop'), entry({}, { labels }));
  const said = (): string | undefined => mesh.condition('ServiceEntry/shop/ext', 'istio.io/WaypointBound');
  assert.equal(said(), 'True WaypointAccepted');
  mesh.add(meshConfig({ defaultVisibility: 'NAMESPACE' }));
  assert.equal(said(), 'False CrossNamespaceWaypointForbidden');
  assert.equal(mesh.service(HOST).waypoint, undefined);
  mesh.add(entry({}, { labels: { 'istio.io/use-waypoint': 'wp' } }));
  assert.equal(said(), 'True WaypointAccepted');
});

const STATUS = {
  addresses: [
    { host: 'ext.example', value: '240.240.0.9' },
    { host: 'ext.example', value: '2001:2::9' },
  ],
};
const ALLOCATED: [name: string, spec: object, labels: object, expected: string[]][] = [
  ['used where the entry states none', {}, {}, ['|240.240.0.9', '|2001:2::9']],
  ['not used beside stated ones', { addresses: ['192.0.2.1'] }, {}, ['|192.0.2.1']],
  ['not used by an entry that opted out', {}, { 'networking.istio.io/enable-autoallocate-ip': 'false' }, []],
  ['not used by an entry that is not resolved', { resolution: 'NONE' }, {}, []],
];
for (const [name, spec, labels, expected] of ALLOCATED) {
  test(`allocated addresses are ${name}`, () => {
    const mesh = new TestMesh();
    mesh.add(entry(spec, { labels, status: STATUS }));
    assert.deepEqual(addresses(mesh), expected);
  });
}

test('what only a waypoint can do is said where there is none (WaypointMissing)', () => {
  const mesh = new TestMesh();
  const missing = (): string | undefined => mesh.condition('ServiceEntry/shop/ext', 'istio.io/WaypointMissing');
  mesh.add(entry());
  assert.equal(missing(), undefined);
  mesh.add(entry({}, { annotations: { 'istio.io/connect-strategy': 'RACE_FIRST_TCP_CONNECT' } }));
  assert.equal(missing(), 'True NoWaypoint');
  mesh.add(entry({ hosts: ['*.example'], resolution: 'DYNAMIC_DNS' }));
  assert.equal(missing(), 'True NoWaypoint');
  mesh.remove('ServiceEntry/shop/ext');
  assert.equal(missing(), undefined);
});
