/** Work in slices: bounded, in an order that leaves nobody without his policy, and fair to small changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { AuthorizationSchema, Scope } from '../../../api/gen/istio/security/authorization_pb.js';
import { isSound } from '../../../control/discovery/condition.ts';
import { PendingSet } from '../../../control/discovery/pending-set.ts';
import type { ResourceUpdate } from '../../../control/discovery/resource.ts';
import type { ObjectChange } from '../../../control/model/object-store.ts';
import { meshObjects, TestMesh, yamlOf } from '../../support/mesh.ts';

const PODS = 400;
const STATIC = 'istio-system/istio_converted_static_strict';

function pod(index: number, labels: object = { app: 'web' }): string {
  const spec = { nodeName: `node-${index % 4}` };
  const status = { podIP: `10.0.${index >> 8}.${index & 255}` };
  return yamlOf('v1', 'Pod', { name: `p-${index}`, namespace: 'shop', labels }, { spec, status });
}

function bigMesh(sliceCost?: number): TestMesh {
  const mesh = new TestMesh({}, sliceCost);
  mesh.add(...Array.from({ length: PODS }, (_, index) => pod(index)));
  return mesh;
}

const STRICT = yamlOf(
  'security.istio.io/v1',
  'PeerAuthentication',
  { name: 'mesh', namespace: 'istio-system' },
  { spec: { mtls: { mode: 'STRICT' } } },
);

function change(mesh: TestMesh, yaml: string[], removed: string[] = []): ObjectChange[] {
  return mesh.objects.apply({ upserted: yaml.flatMap(meshObjects), removed });
}

const namesOf = (updates: readonly ResourceUpdate[]): string[] => updates.map((update) => update.name);

test('a change of the whole mesh comes in slices, each a bounded number of resources', () => {
  const mesh = bigMesh(50);
  const slices = [...mesh.builder.updateInSlices(change(mesh, [STRICT]))];
  assert.ok(slices.length >= PODS / 50, `${slices.length} slices`);
  for (const slice of slices) assert.ok(slice.length <= 51, `${slice.length} resources in a slice`);
  assert.equal(new Set(slices.flatMap(namesOf)).size, PODS + 1, 'every pod and the policy');
});

test('a policy is announced before the first workload that names it, and goes after the last one', () => {
  const mesh = bigMesh(50);
  const policy = yamlOf(
    'security.istio.io/v1',
    'AuthorizationPolicy',
    { name: 'a', namespace: 'shop' },
    { spec: { selector: { matchLabels: { app: 'web' } } } },
  );
  const coming = namesOf([...mesh.builder.updateInSlices(change(mesh, [STRICT, policy]))].flat());
  const firstPod = coming.findIndex((name) => name.includes('//Pod/'));
  assert.ok(coming.indexOf(STATIC) < firstPod && coming.indexOf('shop/a') < firstPod);
  const removed = ['PeerAuthentication/istio-system/mesh', 'AuthorizationPolicy/shop/a'];
  const going = namesOf([...mesh.builder.updateInSlices(change(mesh, [], removed))].flat());
  const lastPod = going.findLastIndex((name) => name.includes('//Pod/'));
  assert.ok(going.indexOf(STATIC) > lastPod && going.indexOf('shop/a') > lastPod);
});

const forAll = (spec: object = {}): string =>
  yamlOf('security.istio.io/v1', 'AuthorizationPolicy', { name: 'a', namespace: 'shop' }, { spec });
const forWeb = forAll({ selector: { matchLabels: { app: 'web' } } });
const scopeIn = (mesh: TestMesh): Scope | undefined => {
  const bytes = mesh.find('shop/a')?.bytes;
  return bytes && fromBinary(AuthorizationSchema, bytes).scope;
};

test('a policy that becomes one for some is one for all until those that it is for name it', () => {
  const mesh = bigMesh(50);
  mesh.publish(mesh.builder.update(change(mesh, [forAll()])));
  for (const slice of mesh.builder.updateInSlices(change(mesh, [forWeb]))) {
    mesh.publish(slice);
    const unnamed = Array.from({ length: PODS }, (_, index) => mesh.pod(`shop/p-${index}`)).filter(
      ({ authorizationPolicies }) => authorizationPolicies.length === 0,
    );
    assert.ok(unnamed.length === 0 || scopeIn(mesh) === Scope.NAMESPACE, `${unnamed.length} pods without any policy`);
  }
  assert.equal(scopeIn(mesh), Scope.WORKLOAD_SELECTOR);
});

test('a policy that becomes one for some, and something else before that was announced, ends as what it is', () => {
  const ends: [yaml: string[], removed: string[], scope: Scope | undefined][] = [
    [[forAll({ action: 'DENY', rules: [{}] })], [], Scope.NAMESPACE],
    [[forWeb], [], Scope.WORKLOAD_SELECTOR],
    [[forAll({ action: 'AUDIT' })], [], undefined],
    [[], ['AuthorizationPolicy/shop/a'], undefined],
  ];
  for (const [yaml, removed, scope] of ends) {
    const mesh = bigMesh(50);
    mesh.publish(mesh.builder.update(change(mesh, [forAll()])));
    const run = mesh.builder.updateInSlices(change(mesh, [forWeb]));
    mesh.publish(run.next().value ?? []);
    mesh.builder.accept(change(mesh, yaml, removed));
    for (const slice of run) mesh.publish(slice);
    assert.equal(scopeIn(mesh), scope);
  }
});

test('a policy that comes back before its removal was announced is not announced as removed', () => {
  const mesh = bigMesh(50);
  mesh.publish([...mesh.builder.updateInSlices(change(mesh, [STRICT]))].flat());
  const run = mesh.builder.updateInSlices(change(mesh, [], ['PeerAuthentication/istio-system/mesh']));
  mesh.publish(run.next().value ?? []);
  mesh.builder.accept(change(mesh, [STRICT]));
  for (const slice of run) {
    for (const update of slice) assert.ok(update.name !== STATIC || update.resource !== undefined);
    mesh.publish(slice);
  }
  assert.ok(mesh.names().includes(STATIC));
  assert.deepEqual(mesh.pod('shop/p-0').authorizationPolicies, [STATIC]);
});

test('a pod that changes while the whole mesh is built does not wait for the rest', () => {
  const mesh = bigMesh(50);
  const run = mesh.builder.updateInSlices(change(mesh, [STRICT]));
  mesh.publish(run.next().value ?? []);
  mesh.builder.accept(change(mesh, [pod(PODS - 1, { app: 'web', version: 'v2' })]));
  const next = run.next().value ?? [];
  assert.equal(namesOf(next)[0], `Kubernetes//Pod/shop/p-${PODS - 1}`);
  mesh.publish(next);
  assert.deepEqual(mesh.pod(`shop/p-${PODS - 1}`).authorizationPolicies, [STATIC]);
  for (const slice of run) mesh.publish(slice);
});

test('what an abandoned run has left is done by the next one', () => {
  const mesh = bigMesh(50);
  mesh.publish(mesh.builder.updateInSlices(change(mesh, [STRICT])).next().value ?? []);
  for (const slice of mesh.builder.updateInSlices([])) mesh.publish(slice);
  for (let index = 0; index < PODS; index++) {
    assert.deepEqual(mesh.pod(`shop/p-${index}`).authorizationPolicies, [STATIC]);
  }
});

test('the first build announces every resource once', () => {
  const mesh = new TestMesh();
  const service = yamlOf(
    'v1',
    'Service',
    { name: 'web', namespace: 'shop' },
    { spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } },
  );
  const nodes = Array.from({ length: 4 }, (_, index) =>
    yamlOf('v1', 'Node', { name: `node-${index}`, labels: { 'topology.kubernetes.io/zone': 'z' } }),
  );
  const pods = Array.from({ length: PODS }, (_, index) => pod(index));
  const updates = mesh.builder.update(change(mesh, [...pods, ...nodes, service, STRICT]));
  const names = namesOf(updates).filter((name) => name.includes('//Pod/'));
  assert.equal(names.length, PODS);
  assert.equal(new Set(names).size, PODS);
});

test('conditions that change are told once', () => {
  const mesh = new TestMesh();
  const service = (waypoint: string): string =>
    yamlOf(
      'v1',
      'Service',
      { name: 'web', namespace: 'shop', labels: { 'istio.io/use-waypoint': waypoint } },
      { spec: {} },
    );
  mesh.add(service('wp'));
  assert.deepEqual([...mesh.builder.takeChangedConditions()], ['Service/shop/web']);
  mesh.add(service('wp'));
  assert.deepEqual([...mesh.builder.takeChangedConditions()], []);
  mesh.add(service('none'));
  assert.deepEqual([...mesh.builder.takeChangedConditions()], ['Service/shop/web']);
  assert.equal(mesh.builder.conditions().has('Service/shop/web'), false);
});

test('what a policy is attached to is looked up again when it changes', () => {
  const mesh = new TestMesh();
  const policy = yamlOf(
    'security.istio.io/v1',
    'AuthorizationPolicy',
    { name: 'a', namespace: 'shop' },
    { spec: { targetRefs: [{ kind: 'Service', group: '', name: 'web' }] } },
  );
  const service = (labels: object): string =>
    yamlOf('v1', 'Service', { name: 'web', namespace: 'shop', labels }, { spec: {} });
  const gateway = yamlOf(
    'gateway.networking.k8s.io/v1',
    'Gateway',
    { name: 'wp', namespace: 'shop' },
    {
      spec: { gatewayClassName: 'istio-waypoint', listeners: [{ name: 'm', port: 15008, protocol: 'HBONE' }] },
      status: { addresses: [{ value: '10.96.1.1' }] },
    },
  );
  const said = (): string | undefined => mesh.condition('AuthorizationPolicy/shop/a', 'WaypointAccepted');
  mesh.add(policy);
  assert.equal(said(), 'False TargetNotFound');
  mesh.add(service({}));
  assert.equal(said(), 'False AncestorNotBound');
  mesh.add(service({ 'istio.io/use-waypoint': 'wp' }));
  assert.equal(said(), 'False AncestorNotBound');
  mesh.add(gateway);
  assert.equal(said(), 'True Accepted');
  mesh.remove('Gateway/shop/wp');
  assert.equal(said(), 'False AncestorNotBound');
});

const SOUND: [type: string, condition: 'True' | 'False', reason: string, expected: boolean][] = [
  ['istio.io/WaypointBound', 'True', 'WaypointAccepted', true],
  ['istio.io/WaypointBound', 'True', 'CanaryInvalidWeight', false],
  ['istio.io/WaypointBound', 'False', 'WaypointIsNotReady', false],
  ['istio.io/WaypointMissing', 'True', 'NoWaypoint', false],
  ['istio.io/WaypointMissing', 'False', 'WaypointPresent', true],
  ['istio.io/VisibilityApplied', 'True', 'Namespace', true],
  ['ZtunnelAccepted', 'True', 'Accepted', true],
  ['ZtunnelAccepted', 'True', 'PartiallyInvalid', false],
];
for (const [type, status, reason, expected] of SOUND) {
  test(`${type} ${status} ${reason} says that all is ${expected ? '' : 'not '}as it was written`, () => {
    assert.equal(isSound({ type, status, reason, message: '' }), expected);
  });
}

test('a set that is worked off gives members in the order in which they came, also those that come meanwhile', () => {
  const set = new PendingSet<number>();
  for (const member of [1, 2, 3]) set.add(member);
  assert.equal(set.take(), 1);
  set.add(1);
  set.delete(2);
  assert.deepEqual([set.take(), set.take(), set.take()], [3, 1, undefined]);
  set.add(4);
  assert.equal(set.size, 1);
  assert.equal(set.take(), 4);
  assert.equal(set.take(), undefined);
});
