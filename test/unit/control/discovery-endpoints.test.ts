/** Workloads that are no pods, other networks, and the life of pods as agents see it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NetworkMode, TunnelProtocol, WorkloadStatus } from '../../../api/gen/istio/workload/workload_pb.js';
import { ipFromBytes } from '../../../core/ip.ts';
import { gatewayText, membershipOf, TestMesh, yamlOf } from '../../support/mesh.ts';

const VM = 'Kubernetes/networking.istio.io/WorkloadEntry/shop/vm';
const WEB = 'shop/web.shop.svc.cluster.local';

function workloadEntry(spec: object = {}, metadata: object = {}): string {
  const meta = { name: 'vm', namespace: 'shop', ...metadata };
  return yamlOf('networking.istio.io/v1', 'WorkloadEntry', meta, { spec: { address: '192.0.2.9', ...spec } });
}

function service(spec: object = {}, name = 'web', metadata: object = {}): string {
  const full = { clusterIP: '10.96.0.1', ports: [{ name: 'http', port: 80, targetPort: 8080 }], ...spec };
  return yamlOf('v1', 'Service', { name, namespace: 'shop', ...metadata }, { spec: full });
}

function pod(status: object, metadata: object = {}): string {
  const meta = { name: 'p', namespace: 'shop', labels: { app: 'web' }, ...metadata };
  return yamlOf('v1', 'Pod', meta, { spec: { nodeName: 'node-a' }, status });
}

function slice(endpoints: object[], rest: object = {}, name = 's'): string {
  const metadata = { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } };
  const body = { addressType: 'IPv4', endpoints, ports: [{ name: 'http', port: 9000 }], ...rest };
  return yamlOf('discovery.k8s.io/v1', 'EndpointSlice', metadata, body);
}

test('a WorkloadEntry is a workload with the identity, place and weight it states (WorkloadEntryWorkloads)', () => {
  const mesh = new TestMesh({ trustDomain: 'corp.example' });
  mesh.add(workloadEntry({ serviceAccount: 'vm', locality: 'r/z', weight: 3, labels: { app: 'db' } }));
  const workload = mesh.workload(VM);
  assert.deepEqual(workload.addresses.map(ipFromBytes), ['192.0.2.9']);
  assert.deepEqual([workload.name, workload.namespace, workload.serviceAccount], ['vm', 'shop', 'vm']);
  assert.deepEqual([workload.locality?.region, workload.locality?.zone], ['r', 'z']);
  assert.equal(workload.capacity, 3);
  assert.equal(workload.trustDomain, 'corp.example');
  assert.equal(workload.canonicalName, 'db');
  assert.equal(workload.workloadName, 'vm');
  assert.equal(workload.tunnelProtocol, TunnelProtocol.NONE);
  assert.equal(workload.node, '');
});

test('a WorkloadEntry may be known by name only, which agents resolve', () => {
  const mesh = new TestMesh();
  mesh.add(workloadEntry({ address: 'VM.example' }));
  assert.equal(mesh.workload(VM).hostname, 'vm.example');
  assert.deepEqual(mesh.workload(VM).addresses, []);
});

const TUNNELS: [name: string, labels: object, annotations: object, tunnel: TunnelProtocol, native: boolean][] = [
  ['nothing', {}, {}, TunnelProtocol.NONE, false],
  ['captured by an agent', {}, { 'ambient.istio.io/redirection': 'enabled' }, TunnelProtocol.HBONE, false],
  ['about to be captured', {}, { 'ambient.istio.io/redirection': 'pending' }, TunnelProtocol.NONE, false],
  ['its own tunnel', { 'networking.istio.io/tunnel': 'http' }, {}, TunnelProtocol.HBONE, true],
  ['its own tunnel among others', { 'networking.istio.io/tunnel': 'other,http' }, {}, TunnelProtocol.HBONE, true],
  ['another tunnel', { 'networking.istio.io/tunnel': 'other' }, {}, TunnelProtocol.NONE, false],
];
for (const [name, labels, annotations, tunnel, native] of TUNNELS) {
  test(`tunnel of a WorkloadEntry with ${name}`, () => {
    const mesh = new TestMesh();
    mesh.add(workloadEntry({}, { labels, annotations }));
    assert.deepEqual([mesh.workload(VM).tunnelProtocol, mesh.workload(VM).nativeTunnel], [tunnel, native]);
  });
}

test('a Service selects WorkloadEntries by their labels; named targets are their ports (WorkloadEntries)', () => {
  const mesh = new TestMesh();
  const ports = [
    { name: 'http', port: 80, targetPort: 8080 },
    { name: 'named', port: 81, targetPort: 'metrics' },
    { name: 'lost', port: 82, targetPort: 'absent' },
  ];
  mesh.add(
    service({ selector: { app: 'db' }, ports }),
    workloadEntry({ labels: { app: 'db' }, ports: { metrics: 9090, http: 1 } }),
  );
  assert.deepEqual(membershipOf(mesh.workload(VM), WEB), ['80:8080', '81:9090']);
  mesh.add(workloadEntry({ labels: { app: 'x' } }, { labels: { app: 'db' } }));
  assert.deepEqual(Object.keys(mesh.workload(VM).services), [], 'the specification wins over the object');
});

test('policies and mTLS modes select WorkloadEntries too', () => {
  const mesh = new TestMesh();
  mesh.add(
    workloadEntry({ labels: { app: 'db' } }),
    yamlOf(
      'security.istio.io/v1',
      'AuthorizationPolicy',
      { name: 'a', namespace: 'shop' },
      { spec: { selector: { matchLabels: { app: 'db' } } } },
    ),
    yamlOf(
      'security.istio.io/v1',
      'PeerAuthentication',
      { name: 'm', namespace: 'shop' },
      { spec: { mtls: { mode: 'STRICT' } } },
    ),
  );
  assert.deepEqual(mesh.workload(VM).authorizationPolicies, ['shop/a', 'istio-system/istio_converted_static_strict']);
});

test('a WorkloadEntry is bound to a waypoint for workloads, and told so', () => {
  const mesh = new TestMesh();
  const gateway = yamlOf(
    'gateway.networking.k8s.io/v1',
    'Gateway',
    { name: 'wp', namespace: 'shop', labels: { 'istio.io/waypoint-for': 'workload' } },
    {
      spec: { gatewayClassName: 'istio-waypoint', listeners: [{ name: 'm', port: 15008, protocol: 'HBONE' }] },
      status: { addresses: [{ value: '10.96.1.1' }] },
    },
  );
  mesh.add(workloadEntry({}, { labels: { 'istio.io/use-waypoint': 'wp' } }));
  const said = (): string | undefined => mesh.condition('WorkloadEntry/shop/vm', 'istio.io/WaypointBound');
  assert.equal(said(), 'False WaypointIsNotReady');
  mesh.add(gateway);
  assert.equal(gatewayText(mesh.workload(VM).waypoint), '/10.96.1.1:15008');
  assert.equal(said(), 'True WaypointAccepted');
  mesh.remove('WorkloadEntry/shop/vm');
  assert.equal(said(), undefined);
});

test('a workload of another network is reached through its gateway (CrossNetworkWorkloadEntry)', () => {
  const mesh = new TestMesh({ network: 'near' });
  const far = (value: string): string =>
    yamlOf(
      'gateway.networking.k8s.io/v1',
      'Gateway',
      { name: 'far', namespace: 'istio-system', labels: { 'topology.istio.io/network': 'far' } },
      {
        spec: {
          gatewayClassName: 'istio-remote',
          listeners: [{ name: 'x', port: 15009, protocol: 'HBONE' }],
          addresses: [{ type: 'IPAddress', value }],
        },
      },
    );
  mesh.add(workloadEntry({ network: 'far' }));
  assert.equal(mesh.workload(VM).network, 'far');
  assert.equal(mesh.workload(VM).networkGateway, undefined);
  mesh.add(far('203.0.113.1'));
  assert.equal(gatewayText(mesh.workload(VM).networkGateway), 'far/203.0.113.1:15009');
  const gateway = mesh.workload('NetworkGateway/far/203.0.113.1/15009');
  assert.deepEqual([gateway.network, gateway.tunnelProtocol], ['far', TunnelProtocol.HBONE]);
  assert.deepEqual(mesh.find(gateway.uid)?.aliases, ['far/203.0.113.1']);
  mesh.add(far('203.0.113.2'));
  assert.equal(gatewayText(mesh.workload(VM).networkGateway), 'far/203.0.113.2:15009');
  assert.equal(mesh.findWorkload('NetworkGateway/far/203.0.113.1/15009'), undefined);
  mesh.remove('Gateway/istio-system/far');
  assert.equal(mesh.workload(VM).networkGateway, undefined);
  assert.deepEqual(mesh.names(), [VM]);
});

test('network and cluster are stated on everything (NetworkAndClusterIDs), and follow the root namespace (SystemNamespaceNetworkChange)', () => {
  const mesh = new TestMesh({ clusterId: 'c1', network: 'n0' });
  const uid = 'c1//Pod/shop/p';
  mesh.add(pod({ podIP: '10.0.0.1' }), service({ selector: { app: 'web' } }));
  const networks = (): unknown[] => [
    mesh.workload(uid).clusterId,
    mesh.workload(uid).network,
    mesh.service(WEB).addresses[0]?.network,
    mesh.find(uid)?.aliases[0],
  ];
  assert.deepEqual(networks(), ['c1', 'n0', 'n0', 'n0/10.0.0.1']);
  const root = (labels: object): string => yamlOf('v1', 'Namespace', { name: 'istio-system', labels });
  mesh.add(root({ 'topology.istio.io/network': 'n1' }));
  assert.deepEqual(networks(), ['c1', 'n1', 'n1', 'n1/10.0.0.1']);
  mesh.add(pod({ podIP: '10.0.0.1' }, { labels: { app: 'web', 'topology.istio.io/network': 'own' } }));
  assert.equal(mesh.workload(uid).network, 'n1', 'a label of the pod is not looked at');
  mesh.add(root({}));
  assert.deepEqual(networks(), ['c1', 'n0', 'n0', 'n0/10.0.0.1']);
});

test('addresses of a slice that are no pods are bare endpoints of its Service (EndpointSliceWorkloads)', () => {
  const mesh = new TestMesh();
  mesh.add(
    service(),
    slice([{ addresses: ['192.0.2.1', '192.0.2.2'] }, { addresses: ['192.0.2.3'], conditions: { ready: false } }]),
  );
  const uid = 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/s/192.0.2.1';
  const workload = mesh.workload(uid);
  assert.deepEqual(
    workload.addresses.map(ipFromBytes),
    ['192.0.2.1'],
    'other addresses of an endpoint are the same endpoint',
  );
  assert.deepEqual(membershipOf(workload, WEB), ['80:9000'], 'the port is the one the slice states');
  assert.equal(workload.networkMode, NetworkMode.HOST_NETWORK);
  assert.equal(workload.serviceAccount, '');
  assert.equal(workload.status, WorkloadStatus.HEALTHY);
  assert.equal(mesh.workload(uid.replace('2.1', '2.3')).status, WorkloadStatus.UNHEALTHY);
  assert.deepEqual(mesh.find(uid)?.aliases, [], 'others may have the same address');
  mesh.add(slice([{ addresses: ['192.0.2.4'] }]));
  assert.deepEqual(mesh.names(), [uid.replace('2.1', '2.4'), WEB].sort());
});

test('a slice comes before its Service or stays without: nothing is announced', () => {
  const mesh = new TestMesh();
  mesh.add(slice([{ addresses: ['192.0.2.1'] }]));
  assert.deepEqual(mesh.names(), []);
  mesh.add(service());
  assert.equal(mesh.names().length, 2);
  mesh.add(service({ selector: { app: 'x' } }));
  assert.deepEqual(mesh.names(), [WEB], 'endpoints of a Service with a selector are found by labels');
  mesh.remove('Service/shop/web');
  assert.deepEqual(mesh.names(), []);
});

test('names in slices are left out, and so are ports that are not TCP', () => {
  const mesh = new TestMesh();
  mesh.add(service(), slice([{ addresses: ['x.example'] }], { addressType: 'FQDN' }));
  assert.deepEqual(mesh.names(), [WEB]);
  mesh.add(slice([{ addresses: ['192.0.2.1'] }], { ports: [{ name: 'http', port: 9000, protocol: 'UDP' }] }));
  const workload = mesh.workload('Kubernetes/discovery.k8s.io/EndpointSlice/shop/s/192.0.2.1');
  assert.deepEqual(membershipOf(workload, WEB), []);
});

test('a slice that points at a pod makes it an endpoint of a Service without selector (ServiceSelectsCorrectWorkloads)', () => {
  const mesh = new TestMesh();
  const target = { addresses: ['10.0.0.1'], targetRef: { kind: 'Pod', name: 'p', namespace: 'shop' } };
  mesh.add(service(), slice([target]), pod({ podIP: '10.0.0.1' }));
  assert.deepEqual(membershipOf(mesh.pod('shop/p'), WEB), ['80:9000']);
  assert.equal(mesh.names().length, 2, 'the pod is the endpoint, once');
  mesh.remove('EndpointSlice/shop/s');
  assert.equal(membershipOf(mesh.pod('shop/p'), WEB), undefined);
});

const READY = { phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'True' }] };

test('a pod in its life: absent, unhealthy, healthy, draining, gone (PodLifecycleWorkloadGates)', () => {
  const mesh = new TestMesh();
  const uid = 'Kubernetes//Pod/shop/p';
  const states: [step: string, yaml: string, expected: WorkloadStatus | undefined][] = [
    ['scheduled', pod({ phase: 'Pending' }), undefined],
    ['init containers run', pod({ ...READY, phase: 'Pending', conditions: [] }), WorkloadStatus.UNHEALTHY],
    ['ready', pod(READY), WorkloadStatus.HEALTHY],
    ['being deleted', pod(READY, { deletionTimestamp: '2026-01-01T00:00:00Z' }), WorkloadStatus.UNHEALTHY],
    ['finished', pod({ ...READY, phase: 'Succeeded' }, { deletionTimestamp: '2026-01-01T00:00:00Z' }), undefined],
    ['started anew', pod(READY), WorkloadStatus.HEALTHY],
    ['failed', pod({ ...READY, phase: 'Failed' }), undefined],
  ];
  for (const [step, yaml, expected] of states) {
    mesh.add(yaml);
    assert.equal(mesh.findWorkload(uid)?.status, expected, step);
  }
});

test('labels of a node that move its pods are followed; everything else of a node touches nothing', () => {
  const mesh = new TestMesh();
  const node = (labels: object): string => yamlOf('v1', 'Node', { name: 'node-a', labels });
  mesh.add(pod(READY), node({ 'topology.kubernetes.io/zone': 'z1' }));
  assert.equal(mesh.pod('shop/p').locality?.zone, 'z1');
  const again = node({ 'topology.kubernetes.io/zone': 'z1', 'example.com/x': 'y' });
  assert.deepEqual(mesh.builder.update(mesh.objects.apply({ upserted: [], removed: [] })), []);
  assert.deepEqual(mesh.add(again), []);
  assert.deepEqual(mesh.add(node({ 'topology.kubernetes.io/zone': 'z2' })), ['Kubernetes//Pod/shop/p']);
  mesh.remove('Node//node-a');
  assert.equal(mesh.pod('shop/p').locality, undefined);
});
