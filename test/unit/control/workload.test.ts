/** Pod -> Workload (PodWorkloads): addresses, health, membership, named ports, identity, tunnel, names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  NetworkMode,
  TunnelProtocol,
  type Workload,
  WorkloadStatus,
  WorkloadType,
} from '../../../api/gen/istio/workload/workload_pb.js';
import { endpointService } from '../../../control/discovery/service.ts';
import { buildWorkload } from '../../../control/discovery/workload.ts';
import { ipFromBytes } from '../../../core/ip.ts';
import { objectOf, problemsOf, SETTINGS } from '../../support/control.ts';

interface PodText {
  metadata?: object;
  spec?: object;
  status?: object;
}

const READY = { phase: 'Running', podIP: '10.0.0.5', conditions: [{ type: 'Ready', status: 'True' }] };

function podYaml({ metadata = {}, spec = {}, status = READY }: PodText): string {
  const meta = { name: 'web-1', namespace: 'shop', labels: { app: 'web' }, ...metadata };
  const full = { nodeName: 'node-a', serviceAccountName: 'web', containers: [{ name: 'c' }], ...spec };
  return JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: meta, spec: full, status });
}

function service(spec: object, name = 'web'): ReturnType<typeof objectOf<'Service'>> {
  const full = { clusterIP: '10.96.0.1', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }], ...spec };
  const object = { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'shop' }, spec: full };
  return objectOf('Service', JSON.stringify(object));
}

function build(
  text: PodText,
  around: Partial<Parameters<typeof buildWorkload>[1]> = {},
  settings = SETTINGS,
): Workload | undefined {
  return buildWorkload(
    objectOf('Pod', podYaml(text)),
    { node: undefined, services: [], policies: [], waypoint: undefined, applicationTunnel: undefined, ...around },
    settings,
  );
}

function built(...args: Parameters<typeof build>): Workload {
  const workload = build(...args);
  if (workload === undefined) throw new Error('no workload');
  return workload;
}

test('a running pod becomes a workload with its place, identity and names', () => {
  const workload = built({});
  assert.equal(workload.uid, 'Kubernetes//Pod/shop/web-1');
  assert.deepEqual(workload.addresses.map(ipFromBytes), ['10.0.0.5']);
  assert.equal(workload.node, 'node-a');
  assert.equal(workload.serviceAccount, 'web');
  assert.equal(workload.workloadType, WorkloadType.POD);
  assert.equal(workload.clusterId, 'Kubernetes');
  assert.equal(workload.networkMode, NetworkMode.STANDARD);
  assert.equal(workload.locality, undefined);
});

test('the default trust domain is left out, another one is stated', () => {
  assert.equal(built({}).trustDomain, '');
  assert.equal(built({}, {}, { ...SETTINGS, trustDomain: 'corp.example' }).trustDomain, 'corp.example');
});

test('all addresses of a dual-stack pod are announced, canonical and once', () => {
  const status = { ...READY, podIPs: [{ ip: '10.0.0.5' }, { ip: 'FD00:0::5' }, { ip: '::ffff:10.0.0.5' }] };
  assert.deepEqual(built({ status }).addresses.map(ipFromBytes), ['10.0.0.5', 'fd00::5']);
});

const HEALTH: [name: string, text: PodText, expected: WorkloadStatus | undefined][] = [
  ['ready', {}, WorkloadStatus.HEALTHY],
  ['not ready', { status: { ...READY, conditions: [{ type: 'Ready', status: 'False' }] } }, WorkloadStatus.UNHEALTHY],
  ['conditions without Ready', { status: { ...READY, conditions: [] } }, WorkloadStatus.UNHEALTHY],
  ['an address and no conditions at all, written by hand', { status: { podIP: '10.0.0.5' } }, WorkloadStatus.HEALTHY],
  ['being deleted', { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } }, WorkloadStatus.UNHEALTHY],
  [
    'pending with an address: init containers may talk',
    { status: { ...READY, phase: 'Pending', conditions: [] } },
    WorkloadStatus.UNHEALTHY,
  ],
  ['without an address', { status: { phase: 'Running' } }, undefined],
  ['without a status', { status: {} }, undefined],
  ['succeeded', { status: { ...READY, phase: 'Succeeded' } }, undefined],
  ['failed', { status: { ...READY, phase: 'Failed' } }, undefined],
];
for (const [name, text, expected] of HEALTH) {
  test(`a pod that is ${name}`, () => assert.equal(build(text)?.status, expected));
}

const TUNNEL: [name: string, metadata: object, protocol: TunnelProtocol, native: boolean][] = [
  ['nothing said', {}, TunnelProtocol.NONE, false],
  ['redirection enabled', { annotations: { 'ambient.istio.io/redirection': 'enabled' } }, TunnelProtocol.HBONE, false],
  ['redirection pending', { annotations: { 'ambient.istio.io/redirection': 'pending' } }, TunnelProtocol.NONE, false],
  ['tunnel label', { labels: { 'networking.istio.io/tunnel': 'http' } }, TunnelProtocol.HBONE, true],
  ['tunnel label with several', { labels: { 'networking.istio.io/tunnel': 'a,http' } }, TunnelProtocol.HBONE, true],
];
for (const [name, metadata, protocol, native] of TUNNEL) {
  test(`the tunnel of a pod: ${name}`, () => {
    const workload = built({ metadata });
    assert.equal(workload.tunnelProtocol, protocol);
    assert.equal(workload.nativeTunnel, native);
  });
}

test('a pod on the host network identifies nothing by its address', () => {
  assert.equal(built({ spec: { hostNetwork: true } }).networkMode, NetworkMode.HOST_NETWORK);
});

test('the locality comes from the labels of the node', () => {
  const node = objectOf(
    'Node',
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: 'node-a',
        labels: {
          'topology.kubernetes.io/region': 'r',
          'topology.kubernetes.io/zone': 'z',
          'topology.istio.io/subzone': 's',
        },
      },
    }),
  );
  const { locality } = built({}, { node });
  assert.deepEqual([locality?.region, locality?.zone, locality?.subzone], ['r', 'z', 's']);
});

test('a named target port is the container port of that name in this pod, TCP only, sidecars included', () => {
  const spec = {
    containers: [
      {
        name: 'c',
        ports: [
          { name: 'http', containerPort: 8080 },
          { name: 'dns', containerPort: 53, protocol: 'UDP' },
        ],
      },
    ],
    initContainers: [
      { name: 'sidecar', restartPolicy: 'Always', ports: [{ name: 'metrics', containerPort: 9090 }] },
      { name: 'init', ports: [{ name: 'setup', containerPort: 1 }] },
    ],
  };
  const ports = ['http', 'dns', 'metrics', 'setup', 'absent'].map((targetPort, index) => ({
    name: targetPort,
    port: index + 1,
    targetPort,
  }));
  const workload = built({ spec }, { services: [endpointService(service({ ports }), SETTINGS)] });
  const list = workload.services['shop/web.shop.svc.cluster.local']?.ports.map((port) => [
    port.servicePort,
    port.targetPort,
  ]);
  assert.deepEqual(list, [
    [1, 8080],
    [3, 9090],
  ]);
});

test('a target port is the port itself by default, and a quoted number is a number', () => {
  const ports = [
    { name: 'a', port: 80 },
    { name: 'b', port: 81, targetPort: '8081' },
    { name: 'u', port: 82, protocol: 'UDP' },
  ];
  const workload = built({}, { services: [endpointService(service({ ports }), SETTINGS)] });
  const list = workload.services['shop/web.shop.svc.cluster.local']?.ports.map((port) => [
    port.servicePort,
    port.targetPort,
  ]);
  assert.deepEqual(list, [
    [80, 80],
    [81, 8081],
  ]);
});

const OWNER = (kind: string, name: string): object => ({ ownerReferences: [{ kind, name, controller: true }] });
const NAMES: [name: string, metadata: object, workload: string, canonical: string, revision: string][] = [
  ['no labels and no owner', { labels: {} }, 'web-1', 'web-1', 'latest'],
  ['app and version', { labels: { app: 'web', version: 'v2' } }, 'web-1', 'web', 'v2'],
  [
    'recommended labels win over short ones',
    { labels: { app: 'a', version: '1', 'app.kubernetes.io/name': 'b', 'app.kubernetes.io/version': '2' } },
    'web-1',
    'b',
    '2',
  ],
  [
    'canonical labels win over all',
    {
      labels: {
        'app.kubernetes.io/name': 'b',
        'app.kubernetes.io/version': '2',
        'service.istio.io/canonical-name': 'c',
        'service.istio.io/canonical-revision': '3',
      },
    },
    'web-1',
    'c',
    '3',
  ],
  [
    'a ReplicaSet of a Deployment',
    { labels: { 'pod-template-hash': '5d4f' }, ...OWNER('ReplicaSet', 'shop-web-5d4f') },
    'shop-web',
    'shop-web',
    'latest',
  ],
  ['a ReplicaSet of its own', { labels: {}, ...OWNER('ReplicaSet', 'shop-web') }, 'shop-web', 'shop-web', 'latest'],
  ['a Job of a CronJob', { labels: {}, ...OWNER('Job', 'backup-29012345') }, 'backup', 'backup', 'latest'],
  ['a Job', { labels: {}, ...OWNER('Job', 'migrate') }, 'migrate', 'migrate', 'latest'],
  ['a StatefulSet', { labels: {}, ...OWNER('StatefulSet', 'db') }, 'db', 'db', 'latest'],
  [
    'a stated workload name',
    { labels: { 'service.istio.io/workload-name': 'x' }, ...OWNER('StatefulSet', 'db') },
    'x',
    'x',
    'latest',
  ],
];
for (const [name, metadata, workload, canonical, revision] of NAMES) {
  test(`names for telemetry: ${name}`, () => {
    const result = built({ metadata });
    assert.deepEqual(
      [result.workloadName, result.canonicalName, result.canonicalRevision],
      [workload, canonical, revision],
    );
  });
}

test('policies are announced in the order given', () => {
  assert.deepEqual(built({}, { policies: ['a/b', 'c/d'] }).authorizationPolicies, ['a/b', 'c/d']);
});

test('a pod is refused with every mistake it has', () => {
  const problems = problemsOf(
    podYaml({ spec: { nodeName: 3, hostNetwork: 'yes' }, status: { podIP: '10.0.0.256', phase: 'Fine' } }),
  );
  assert.deepEqual(
    problems.map((problem) => problem.replace(/^\d+: /, '').split(' ')[0]),
    ['spec.nodeName', 'spec.hostNetwork', 'status.phase', 'status.podIP'],
  );
});
