/**
 * The incremental builder against a build from scratch, under random changes of every kind of object, in slices, with
 * the object store ahead of the builder, and with runs that are abandoned half way.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ObjectChange } from '../../../control/model/object-store.ts';
import { type MeshObject, objectKey } from '../../../control/objects/object.ts';
import { meshObjects, TestMesh, yamlOf } from '../../support/mesh.ts';

const NAMESPACES = ['shop', 'other', 'istio-system'] as const;
const namespace = fc.constantFrom(...NAMESPACES);
const labels = fc.constantFrom<object>(
  { app: 'web' },
  { app: 'api' },
  { app: 'web', version: 'v2' },
  { app: 'web', 'istio.io/use-waypoint': 'wp' },
  { app: 'api', 'istio.io/use-waypoint': 'none' },
  { app: 'wp', 'gateway.networking.k8s.io/gateway-name': 'wp' },
);
const selector = fc.constantFrom<object>({ app: 'web' }, { app: 'api' }, { app: 'web', version: 'v2' }, {});
const created = fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z', '2026-01-03T00:00:00Z');
const useWaypoint = fc.constantFrom<object>(
  {},
  {},
  { 'istio.io/use-waypoint': 'wp' },
  { 'istio.io/use-waypoint': 'wp', 'istio.io/use-waypoint-namespace': 'shop' },
  { 'istio.io/use-waypoint': 'none' },
  { 'istio.io/use-waypoint': 'wp', 'istio.io/use-waypoint-canary': 'canary' },
);

const pod = fc
  .record({ index: fc.integer({ min: 1, max: 5 }), namespace, labels, hostNetwork: fc.boolean(), ready: fc.boolean() })
  .map(({ index, namespace: of, labels: carried, hostNetwork, ready }) =>
    yamlOf(
      'v1',
      'Pod',
      { name: `p-${index}`, namespace: of, labels: carried },
      {
        spec: {
          nodeName: `node-${index % 2}`,
          hostNetwork,
          containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8080 + index }] }],
        },
        status: {
          phase: 'Running',
          podIP: `10.0.0.${index}`,
          conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
        },
      },
    ),
  );
const service = fc
  .record({ name: fc.constantFrom('web', 'api'), namespace, selector, labels: useWaypoint, shape: fc.nat(3) })
  .map(({ name, namespace: of, selector: selecting, labels: carried, shape }) =>
    yamlOf(
      'v1',
      'Service',
      { name, namespace: of, labels: carried },
      {
        spec: {
          ...(shape === 0 ? { type: 'ExternalName', externalName: 'x.example' } : { clusterIP: `10.96.0.${shape}` }),
          ...(shape === 0 ? {} : { selector: selecting }),
          ports: [{ name: 'http', port: 80, targetPort: shape === 1 ? 'http' : 8080 }],
        },
      },
    ),
  );
const slice = fc
  .record({ index: fc.nat(1), namespace, service: fc.constantFrom('web', 'api'), pod: fc.integer({ min: 1, max: 5 }) })
  .map(({ index, namespace: of, service: name, pod: target }) =>
    yamlOf(
      'discovery.k8s.io/v1',
      'EndpointSlice',
      { name: `s-${index}`, namespace: of, labels: { 'kubernetes.io/service-name': name } },
      {
        addressType: 'IPv4',
        endpoints: [
          { addresses: [`192.0.2.${target}`] },
          { addresses: [`10.0.0.${target}`], targetRef: { kind: 'Pod', name: `p-${target}`, namespace: of } },
        ],
        ports: [{ name: 'http', port: 9000 + index }],
      },
    ),
  );
const serviceEntry = fc
  .record({
    name: fc.constantFrom('x', 'y'),
    namespace,
    created,
    labels: useWaypoint,
    host: fc.constantFrom('ext.example', 'web.shop.svc.cluster.local', 'b.example'),
    shape: fc.nat(3),
  })
  .map(({ name, namespace: of, created: at, labels: carried, host, shape }) =>
    yamlOf(
      'networking.istio.io/v1',
      'ServiceEntry',
      { name, namespace: of, labels: carried, creationTimestamp: at },
      {
        spec: {
          hosts: [host, 'common.example'],
          ports: [{ number: 443, name: 'http', protocol: 'TLS' }],
          ...[
            { resolution: 'DNS' },
            { resolution: 'STATIC', endpoints: [{ address: '192.0.2.7', network: 'far' }, { address: '192.0.2.8' }] },
            { resolution: 'STATIC', workloadSelector: { labels: { app: 'web' } } },
            { resolution: 'NONE', addresses: ['192.0.2.0/24'] },
          ][shape],
        },
      },
    ),
  );
const workloadEntry = fc
  .record({ name: fc.constantFrom('vm-1', 'vm-2'), namespace, labels, network: fc.constantFrom('', 'far') })
  .map(({ name, namespace: of, labels: carried, network }) =>
    yamlOf(
      'networking.istio.io/v1',
      'WorkloadEntry',
      { name, namespace: of },
      { spec: { address: '192.0.2.9', labels: carried, network, ports: { http: 81 } } },
    ),
  );
const gateway = fc
  .record({ name: fc.constantFrom('wp', 'canary'), namespace, ready: fc.boolean(), shape: fc.nat(4) })
  .map(({ name, namespace: of, ready, shape }) => {
    const from = ['Same', 'All', 'Selector', 'All', 'All'][shape];
    const far = shape === 4;
    return yamlOf(
      'gateway.networking.k8s.io/v1',
      'Gateway',
      {
        name,
        namespace: of,
        labels: far
          ? { 'topology.istio.io/network': 'far' }
          : { 'istio.io/waypoint-for': shape === 0 ? 'service' : 'all' },
        annotations: shape === 1 ? { 'ambient.istio.io/waypoint-inbound-binding': 'PROXY/15088' } : {},
      },
      {
        spec: {
          gatewayClassName: far ? 'istio-remote' : shape === 2 ? 'own' : 'istio-waypoint',
          listeners: [
            {
              name: 'mesh',
              port: 15008,
              protocol: shape === 2 ? 'HTTP' : 'HBONE',
              allowedRoutes: {
                namespaces: { from, ...(from === 'Selector' ? { selector: { matchLabels: { open: 'yes' } } } : {}) },
              },
            },
          ],
        },
        status: ready ? { addresses: [{ type: 'IPAddress', value: `10.96.1.${shape}` }] } : {},
      },
    );
  });
const gatewayClass = fc
  .constantFrom('istio.io/mesh-controller', 'someone/else')
  .map((controllerName) =>
    yamlOf('gateway.networking.k8s.io/v1', 'GatewayClass', { name: 'own' }, { spec: { controllerName } }),
  );
const clusterObject = fc
  .record({ kind: fc.constantFrom('Node', 'Namespace'), at: fc.nat(2), shape: fc.nat(4), waypoint: useWaypoint })
  .map(({ kind, at, shape, waypoint }) =>
    kind === 'Node'
      ? yamlOf('v1', 'Node', { name: `node-${at}`, labels: { 'topology.kubernetes.io/zone': `z${shape}` } })
      : yamlOf('v1', 'Namespace', {
          name: NAMESPACES[at],
          labels: [waypoint, { open: 'yes' }, { 'topology.istio.io/network': 'n1' }, {}, { ...waypoint, open: 'yes' }][
            shape
          ],
          annotations: shape === 3 ? { 'networking.istio.io/traffic-distribution': 'PreferClose' } : {},
        }),
  );
const policy = fc
  .record({ name: fc.constantFrom('a', 'b'), namespace, shape: fc.nat(4) })
  .map(({ name, namespace: of, shape }) =>
    yamlOf(
      'security.istio.io/v1',
      'AuthorizationPolicy',
      { name, namespace: of },
      {
        spec: [
          { selector: { matchLabels: { app: 'web' } } },
          { selector: { matchLabels: { app: 'api' } }, action: 'AUDIT' },
          { action: 'DENY', rules: [{}] },
          { targetRefs: [{ kind: 'Service', group: '', name: 'web' }] },
          { targetRefs: [{ kind: 'Gateway', group: 'gateway.networking.k8s.io', name: 'wp' }] },
        ][shape],
      },
    ),
  );
const peer = fc
  .record({ name: fc.constantFrom('x', 'y'), namespace, created, shape: fc.nat(4) })
  .map(({ name, namespace: of, created: at, shape }) =>
    yamlOf(
      'security.istio.io/v1',
      'PeerAuthentication',
      { name, namespace: of, creationTimestamp: at },
      {
        spec: [
          { mtls: { mode: 'STRICT' } },
          { mtls: { mode: 'PERMISSIVE' } },
          { selector: { matchLabels: { app: 'web' } }, mtls: { mode: 'STRICT' } },
          { selector: { matchLabels: { app: 'web' } }, portLevelMtls: { 80: { mode: 'STRICT' } } },
          {
            selector: { matchLabels: { app: 'api' } },
            mtls: { mode: 'STRICT' },
            portLevelMtls: { 80: { mode: 'DISABLE' } },
          },
        ][shape],
      },
    ),
  );
const meshConfig = fc.constantFrom('PUBLIC', 'NAMESPACE', 'NONE', undefined).map((visibility) =>
  yamlOf(
    'v1',
    'ConfigMap',
    { name: 'istio', namespace: 'istio-system' },
    {
      data: {
        mesh:
          visibility === undefined
            ? '{}'
            : JSON.stringify({
                serviceEntryVisibility: {
                  defaultVisibility: visibility,
                  policies: [
                    {
                      visibility: 'PUBLIC',
                      matchingRules: [{ namespaceSelector: { matchLabels: { open: 'yes' } } }],
                    },
                  ],
                },
              }),
      },
    },
  ),
);

const object: fc.Arbitrary<MeshObject> = fc
  .oneof(
    { arbitrary: pod, weight: 4 },
    { arbitrary: service, weight: 3 },
    slice,
    { arbitrary: serviceEntry, weight: 3 },
    workloadEntry,
    { arbitrary: gateway, weight: 4 },
    gatewayClass,
    { arbitrary: clusterObject, weight: 4 },
    policy,
    peer,
    meshConfig,
  )
  .map((yaml) => {
    const [only] = meshObjects(yaml);
    if (only === undefined) throw new Error('no object');
    return only;
  });

/** One step: objects that come or change, how many go, and how much of the work is done at once. */
const step = fc.record({
  upserted: fc.array(object, { minLength: 1, maxLength: 4 }),
  removed: fc.array(fc.nat(), { maxLength: 2 }),
  mode: fc.constantFrom<'whole' | 'abandoned' | 'behind'>('whole', 'whole', 'abandoned', 'behind'),
});

for (const allowOnlyWaypoints of [false, true]) {
  test(`after any churn the served state and the conditions equal those of a build from scratch, waypoint policies ${allowOnlyWaypoints ? 'on' : 'off'}`, () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
        const mesh = new TestMesh({ allowOnlyWaypoints }, 1);
        const present = new Map<string, MeshObject>();
        let waiting: ObjectChange[] = [];
        for (const { upserted, removed, mode } of steps) {
          const keys = [...present.keys()];
          const gone = [...new Set(removed.flatMap((at) => keys[at % Math.max(1, keys.length)] ?? []))];
          for (const key of gone) present.delete(key);
          for (const one of upserted) present.set(objectKey(one), one);
          waiting.push(...mesh.objects.apply({ upserted, removed: gone }));
          if (mode === 'behind') continue;
          const run = mesh.builder.updateInSlices(waiting);
          waiting = [];
          // An abandoned run has at least taken the changes over.
          if (mode === 'abandoned') mesh.publish(run.next().value ?? []);
          else for (const slice of run) mesh.publish(slice);
        }
        mesh.publish([...mesh.builder.updateInSlices(waiting)].flat());
        const scratch = new TestMesh({ allowOnlyWaypoints });
        scratch.apply([...present.values()]);
        assert.deepEqual(mesh.content(), scratch.content());
        const said = (of: TestMesh): unknown[] => [...of.builder.conditions()].sort(([a], [b]) => (a < b ? -1 : 1));
        assert.deepEqual(said(mesh), said(scratch));
      }),
      { numRuns: 250, seed: 20_261_121 },
    );
  });
}
