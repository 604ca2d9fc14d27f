/** The incremental builder: what a change reaches, and that it always equals a build from scratch. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { AddressSchema, type Workload } from '../../../api/gen/istio/workload/workload_pb.js';
import { MeshBuilder } from '../../../control/discovery/mesh-builder.ts';
import { ADDRESS_TYPE, RESOURCE_TYPES, type ResourceUpdate } from '../../../control/discovery/resource.ts';
import { ObjectStore } from '../../../control/model/object-store.ts';
import { type MeshObject, objectKey } from '../../../control/objects/object.ts';
import { ResourceStore } from '../../../control/xds/resource-store.ts';
import { objectsOf, SETTINGS } from '../../support/control.ts';

class Mesh {
  readonly objects = new ObjectStore();
  readonly builder = new MeshBuilder(this.objects, SETTINGS);
  readonly stores = new Map(RESOURCE_TYPES.map((type) => [type, new ResourceStore(type)]));

  apply(upserted: readonly MeshObject[], removed: readonly string[] = []): ResourceUpdate[] {
    const updates = this.builder.update(this.objects.apply({ upserted, removed }));
    for (const store of this.stores.values()) store.publish(updates);
    return updates;
  }

  add(yaml: string): ResourceUpdate[] {
    return this.apply(objectsOf(yaml));
  }

  names(): string[] {
    return [...this.stores.values()].flatMap((store) => [...store.names()]).sort();
  }

  workload(name: string): Workload {
    const resource = this.stores.get(ADDRESS_TYPE)?.find(`Kubernetes//Pod/${name}`);
    if (resource === undefined) throw new Error(`no workload ${name}`);
    const { type } = fromBinary(AddressSchema, resource.bytes);
    if (type.case !== 'workload') throw new Error('not a workload');
    return type.value;
  }

  content(): [string, string][] {
    return [...this.stores.values()]
      .flatMap((store) => [...store.names()].map((name): [string, string] => [name, store.find(name)?.version ?? '']))
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

const pod = (name: string, labels = '{app: web}', namespace = 'shop', extra = ''): string => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: ${namespace}, labels: ${labels}}
spec: {nodeName: node-a, serviceAccountName: web${extra}}
status: {podIP: 10.0.0.${(name.charCodeAt(name.length - 1) % 200) + 1}}
`;
const service = (selector = '{app: web}'): string => `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: ${selector}, ports: [{port: 80}]}
`;
const policy = (name: string, namespace: string, spec: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
`;
const peer = (name: string, namespace: string, spec: string): string => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ${name}, namespace: ${namespace}}
spec: ${spec}
`;
const SELECT_WEB = '{selector: {matchLabels: {app: web}}}';
const STATIC = 'istio-system/istio_converted_static_strict';

test('a service that comes after its pods makes them its endpoints, and one whose selector changes loses them', () => {
  const mesh = new Mesh();
  mesh.add(pod('web-1'));
  assert.deepEqual(Object.keys(mesh.workload('shop/web-1').services), []);
  mesh.add(service());
  assert.deepEqual(Object.keys(mesh.workload('shop/web-1').services), ['shop/web.shop.svc.cluster.local']);
  mesh.add(service('{app: other}'));
  assert.deepEqual(Object.keys(mesh.workload('shop/web-1').services), []);
  mesh.apply([], ['Service/shop/web']);
  assert.deepEqual(mesh.names(), ['Kubernetes//Pod/shop/web-1']);
});

test('selectors decide membership; without a selector, or renaming an outside host, there is none', () => {
  const mesh = new Mesh();
  const named = (name: string, spec: string): string =>
    `{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: ${spec}}\n---\n`;
  mesh.add(
    [
      named('web', '{selector: {app: web}, ports: [{port: 80}]}'),
      named('other', '{selector: {app: other}, ports: [{port: 80}]}'),
      named('both', '{selector: {app: web, tier: x}, ports: [{port: 80}]}'),
      named('manual', '{ports: [{port: 80}]}'),
      named('outside', '{type: ExternalName, externalName: x.example, selector: {app: web}}'),
      named('headless', '{clusterIP: None, selector: {app: web}, ports: [{port: 80}]}'),
      pod('web-1'),
    ].join(''),
  );
  assert.deepEqual(Object.keys(mesh.workload('shop/web-1').services), [
    'shop/headless.shop.svc.cluster.local',
    'shop/web.shop.svc.cluster.local',
  ]);
});

test('a policy that comes after its pod is named by it (PolicyAfterPod), sorted, also from the root namespace', () => {
  const mesh = new Mesh();
  mesh.add(pod('web-1'));
  mesh.add(policy('z', 'istio-system', SELECT_WEB));
  mesh.add(policy('b', 'shop', SELECT_WEB));
  mesh.add(policy('a', 'shop', SELECT_WEB));
  mesh.add(policy('whole', 'shop', '{}'));
  mesh.add(policy('elsewhere', 'other', SELECT_WEB));
  assert.deepEqual(mesh.workload('shop/web-1').authorizationPolicies, ['istio-system/z', 'shop/a', 'shop/b']);
  mesh.apply([], ['AuthorizationPolicy/shop/a']);
  assert.deepEqual(mesh.workload('shop/web-1').authorizationPolicies, ['istio-system/z', 'shop/b']);
});

test('a policy that agents do not get is not named by workloads', () => {
  const mesh = new Mesh();
  mesh.add(pod('web-1'));
  mesh.add(policy('audit', 'shop', '{action: AUDIT, selector: {matchLabels: {app: web}}}'));
  assert.deepEqual(mesh.workload('shop/web-1').authorizationPolicies, []);
  assert.deepEqual(mesh.names(), ['Kubernetes//Pod/shop/web-1']);
  assert.equal(mesh.builder.conditions().get('AuthorizationPolicy/shop/audit')?.[0]?.reason, 'UnsupportedValue');
});

test('mTLS over a long life: each change of a level reaches the workloads below it and nobody else', () => {
  const mesh = new Mesh();
  mesh.add(pod('web-1'));
  mesh.add(pod('api-2', '{app: api}'));
  mesh.add(pod('far-3', '{app: web}', 'other'));
  const named = (): string[][] =>
    ['shop/web-1', 'shop/api-2', 'other/far-3'].map((name) => mesh.workload(name).authorizationPolicies);
  assert.deepEqual(named(), [[], [], []]);
  mesh.add(peer('mesh', 'istio-system', '{mtls: {mode: STRICT}}'));
  assert.deepEqual(named(), [[STATIC], [STATIC], [STATIC]]);
  mesh.add(peer('ns', 'shop', '{mtls: {mode: PERMISSIVE}}'));
  assert.deepEqual(named(), [[], [], [STATIC]]);
  mesh.add(
    peer(
      'web',
      'shop',
      '{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}',
    ),
  );
  assert.deepEqual(named(), [['shop/converted_peer_authentication_web'], [], [STATIC]]);
  assert.ok(mesh.names().includes('shop/converted_peer_authentication_web'));
  mesh.add(peer('web', 'shop', '{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}'));
  assert.deepEqual(named(), [[STATIC], [], [STATIC]]);
  assert.ok(!mesh.names().includes('shop/converted_peer_authentication_web'));
  mesh.apply([], ['PeerAuthentication/shop/web', 'PeerAuthentication/shop/ns']);
  assert.deepEqual(named(), [[STATIC], [STATIC], [STATIC]]);
  mesh.apply([], ['PeerAuthentication/istio-system/mesh']);
  assert.deepEqual(named(), [[], [], []]);
  assert.ok(!mesh.names().includes(STATIC), 'the static policy goes with the last PeerAuthentication');
});

test('a mesh-wide mode changes converted policies of every namespace', () => {
  const mesh = new Mesh();
  const unset = '{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: STRICT}}}';
  mesh.add(peer('web', 'shop', unset));
  const name = 'shop/converted_peer_authentication_web';
  assert.ok(mesh.names().includes(name));
  mesh.add(peer('mesh', 'istio-system', '{mtls: {mode: STRICT}}'));
  assert.ok(!mesh.names().includes(name), 'a strict port under STRICT is no exception');
  mesh.apply([], ['PeerAuthentication/istio-system/mesh']);
  assert.ok(mesh.names().includes(name));
});

test('a selector in the root namespace selects nothing, and says so', () => {
  const mesh = new Mesh();
  mesh.add(pod('web-1'));
  mesh.add(peer('web', 'istio-system', '{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}'));
  assert.deepEqual(mesh.workload('shop/web-1').authorizationPolicies, []);
  assert.equal(mesh.builder.conditions().get('PeerAuthentication/istio-system/web')?.[0]?.reason, 'Invalid');
});

test('a change rebuilds only what can depend on it', () => {
  const mesh = new Mesh();
  mesh.add([pod('web-1'), pod('far-3', '{app: web}', 'other'), service()].join('---'));
  const names = (updates: ResourceUpdate[]): string[] => [...new Set(updates.map((update) => update.name))].sort();
  assert.deepEqual(names(mesh.add(pod('web-1', '{app: web, x: y}'))), ['Kubernetes//Pod/shop/web-1']);
  assert.deepEqual(names(mesh.add(policy('all', 'shop', '{}'))), ['shop/all']);
  assert.deepEqual(names(mesh.add(policy('some', 'shop', SELECT_WEB))), ['Kubernetes//Pod/shop/web-1', 'shop/some']);
  assert.deepEqual(names(mesh.add(service())), ['shop/web.shop.svc.cluster.local']);
  const other = names(mesh.add(service('{app: other}')));
  assert.deepEqual(other, ['Kubernetes//Pod/shop/web-1', 'shop/web.shop.svc.cluster.local']);
});

test('after any churn the served state equals a build from scratch', () => {
  const mesh = new Mesh();
  const present = new Map<string, MeshObject>();
  const random = seededRandom(20_261_121);
  const pick = <T>(values: readonly T[]): T => {
    const value = values[Math.floor(random() * values.length)];
    if (value === undefined) throw new Error('nothing to pick from');
    return value;
  };
  const namespaces = ['shop', 'other', 'istio-system'];
  const labels = ['{app: web}', '{app: api}', '{app: web, version: v2}'];
  const make = (): string => {
    const namespace = pick(namespaces);
    switch (Math.floor(random() * 6)) {
      case 0:
      case 1:
        return pod(`p-${Math.floor(random() * 6)}`, pick(labels), namespace, pick(['', ', hostNetwork: true']));
      case 2:
        return service(pick(['{app: web}', '{app: api}', '{}'])).replace('namespace: shop', `namespace: ${namespace}`);
      case 3:
        return policy(
          pick(['a', 'b']),
          namespace,
          pick([SELECT_WEB, '{}', '{action: AUDIT}', '{action: DENY, rules: [{}]}']),
        );
      case 4:
        return `apiVersion: v1\nkind: ${pick(['Node', 'Namespace'])}\nmetadata: {name: ${pick(['node-a', 'shop', 'other'])}, labels: {topology.kubernetes.io/zone: ${pick(['z1', 'z2'])}}, annotations: {networking.istio.io/traffic-distribution: ${pick(['PreferClose', 'Any'])}}}\n`;
      default:
        return peer(
          pick(['x', 'y']),
          namespace,
          pick([
            '{mtls: {mode: STRICT}}',
            '{mtls: {mode: PERMISSIVE}}',
            '{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}',
            '{selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: STRICT}}}',
          ]),
        );
    }
  };
  let largest = 0;
  for (let round = 0; round < 300; round++) {
    const upserted = objectsOf(make());
    const removed = random() < 0.4 && present.size > 0 ? [pick([...present.keys()])] : [];
    for (const key of removed) present.delete(key);
    for (const object of upserted) present.set(objectKey(object), object);
    mesh.apply(upserted, removed);
    largest = Math.max(largest, mesh.content().length);
    const scratch = new Mesh();
    scratch.apply([...present.values()]);
    assert.deepEqual(mesh.content(), scratch.content(), `round ${round}`);
  }
  assert.ok(largest > 10, 'the mesh had some size');
});

/** A small deterministic generator (mulberry32), so that a failure repeats. */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296;
  };
}
