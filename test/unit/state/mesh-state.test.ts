import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MeshState } from '../../../agent/state/mesh-state.ts';
import { ADDRESS_TYPE } from '../../../agent/state/resource.ts';
import { getIp } from '../../../core/ip.ts';
import {
  change,
  getService,
  getWorkload,
  meshOf,
  policy,
  remove,
  service,
  workload,
} from '../../support/mesh-resources.ts';

const KEY = 'default/web.default.svc';
const member = (name: string, fields: Parameters<typeof workload>[1] = {}) =>
  workload(name, { ips: ['10.0.0.2'], services: { [KEY]: {} }, ...fields });

function endpoints(state: MeshState, key = KEY): string[] {
  return [...getService(state, key).endpoints.members()].map(({ name }) => name).sort();
}

function ownerOf(state: MeshState, ip: string, network = ''): string | undefined {
  return state.findWorkloadByIp(network, getIp(ip))?.name;
}

describe('workloads', () => {
  test('are found by uid, address, host name and place', () => {
    const state = meshOf(
      workload('a', { ips: ['10.0.0.1', '2001:db8::1'], hostname: 'a.example' }),
      workload('remote', { ips: ['10.0.0.1'], network: 'remote' }),
    );
    assert.equal(state.findWorkloadByUid('Kubernetes//Pod/default/a')?.name, 'a');
    assert.equal(ownerOf(state, '10.0.0.1'), 'a');
    assert.equal(ownerOf(state, '2001:db8::1'), 'a');
    assert.equal(ownerOf(state, '10.0.0.1', 'remote'), 'remote');
    assert.equal(ownerOf(state, '10.0.0.1', 'third'), undefined);
    assert.equal(state.findWorkloadByHostname('default', 'a.example')?.name, 'a');
    assert.equal(state.findWorkloadByHostname('other', 'a.example'), undefined);
    const key = { namespace: 'default', name: 'a', serviceAccount: 'a' };
    assert.equal(state.findLocalWorkload({ ...key, node: 'node-1' })?.name, 'a');
    assert.equal(state.findLocalWorkload({ ...key, node: '' })?.name, 'a');
    assert.equal(state.findLocalWorkload({ ...key, node: 'node-2' }), undefined);
    assert.equal(state.findLocalWorkload({ ...key, serviceAccount: 'b', node: 'node-1' }), undefined);
    assert.equal(state.findLocalWorkload({ ...key, namespace: 'b', node: '' }), undefined);
  });

  test('of this node are not found while a part of the mesh is unknown', () => {
    const key = { namespace: 'default', name: 'a', serviceAccount: 'a', node: 'node-1' };
    const state = new MeshState();
    const first = { typeUrl: ADDRESS_TYPE, updated: [workload('a')], removed: [] };
    assert.ok(state.apply({ ...first, partial: true }).changed);
    assert.equal(state.findLocalWorkload(key), undefined);
    const before = state.generation;
    assert.ok(state.apply({ typeUrl: ADDRESS_TYPE, updated: [], removed: [] }).changed, 'the last part may be empty');
    assert.ok(state.generation > before);
    assert.equal(state.findLocalWorkload(key)?.name, 'a');
  });

  test('that change are found where they are now and nowhere else', () => {
    const state = meshOf(member('a', { hostname: 'a.example' }), service('web'), service('api'));
    const before = getWorkload(state, 'a');
    change(state, workload('a', { ips: ['10.0.0.9'], node: 'node-2', services: { 'default/api.default.svc': {} } }));
    assert.notEqual(getWorkload(state, 'a'), before);
    assert.deepEqual([ownerOf(state, '10.0.0.2'), ownerOf(state, '10.0.0.9')], [undefined, 'a']);
    assert.equal(state.findWorkloadByHostname('default', 'a.example'), undefined);
    assert.equal(
      state.findLocalWorkload({ namespace: 'default', name: 'a', serviceAccount: 'a', node: 'node-1' }),
      undefined,
    );
    assert.deepEqual([endpoints(state), endpoints(state, 'default/api.default.svc')], [[], ['a']]);
    assert.equal(state.sizes.workloads, 1);
  });

  test('that go are found nowhere', () => {
    const a = member('a', { hostname: 'a.example' });
    const state = meshOf(a, service('web'));
    remove(state, a);
    assert.equal(ownerOf(state, '10.0.0.2'), undefined);
    assert.equal(state.findWorkloadByUid(a.name), undefined);
    assert.equal(state.findWorkloadByHostname('default', 'a.example'), undefined);
    assert.deepEqual(endpoints(state), []);
    assert.equal(state.sizes.workloads, 0);
  });

  test('on the host network are not found by address', () => {
    assert.equal(ownerOf(meshOf(workload('a', { ips: ['10.0.0.1'], networkMode: 1 })), '10.0.0.1'), undefined);
  });

  test('of one address: pods come first, HBONE next, and the rest takes over when they go', () => {
    const entry = workload('entry', { uid: 'cluster/networking/WorkloadEntry/a', ips: ['10.0.0.1'] });
    const pod = workload('pod', { ips: ['10.0.0.1'] });
    const plain = workload('plain', { ips: ['10.0.0.1'], tunnelProtocol: 0 });
    for (const order of [
      [entry, plain, pod],
      [pod, plain, entry],
      [plain, pod, entry],
    ]) {
      const state = meshOf(...order);
      assert.equal(ownerOf(state, '10.0.0.1'), 'pod');
      remove(state, pod);
      assert.equal(ownerOf(state, '10.0.0.1'), 'plain');
      remove(state, plain);
      assert.equal(ownerOf(state, '10.0.0.1'), 'entry');
      remove(state, entry);
      assert.equal(ownerOf(state, '10.0.0.1'), undefined);
    }
  });

  test('of one address: a pod that is going does not stand before the one that has its address now', () => {
    const going = workload('a-going', { ips: ['10.0.0.1'], status: 1 });
    const next = workload('b-next', { ips: ['10.0.0.1'] });
    const plain = workload('c-plain', { ips: ['10.0.0.1'], tunnelProtocol: 0 });
    assert.equal(ownerOf(meshOf(going, next), '10.0.0.1'), 'b-next');
    assert.equal(ownerOf(meshOf(next, going), '10.0.0.1'), 'b-next');
    assert.equal(ownerOf(meshOf(going, plain), '10.0.0.1'), 'a-going', 'nobody gets plaintext for it');
  });

  test('with an address twice are removed whole', () => {
    const twice = workload('a', { ips: ['10.0.0.1', '10.0.0.1'] });
    const state = meshOf(twice);
    remove(state, twice);
    assert.equal(ownerOf(state, '10.0.0.1'), undefined);
  });
});

describe('endpoints', () => {
  test('are those of the service, whichever comes first', () => {
    for (const order of [
      [service('web'), member('a'), member('b')],
      [member('a'), member('b'), service('web')],
    ])
      assert.deepEqual(endpoints(meshOf(...order)), ['a', 'b']);
  });

  test('survive an update of the service and its absence', () => {
    const web = service('web');
    const state = meshOf(web, member('a'));
    change(state, service('web', { ports: { 81: 81 } }));
    assert.deepEqual(endpoints(state), ['a']);
    remove(state, web);
    assert.deepEqual(
      [...state.stagedEndpoints()].map(([key]) => key),
      [KEY],
    );
    change(state, web);
    assert.deepEqual(endpoints(state), ['a']);
    assert.deepEqual([...state.stagedEndpoints()], []);
  });

  test('that wait for a service go with their workload', () => {
    const a = member('a');
    const state = meshOf(a);
    assert.equal([...state.stagedEndpoints()].length, 1);
    remove(state, a);
    assert.equal([...state.stagedEndpoints()].length, 0);
  });

  test('are kept while unhealthy', () => {
    const state = meshOf(service('web'), member('a'));
    change(state, member('a', { status: 1 }));
    assert.deepEqual(endpoints(state), ['a']);
  });

  test('carry the current record of the workload', () => {
    const state = meshOf(service('web'), member('a'));
    change(state, member('a', { ips: ['10.0.0.77'] }));
    assert.deepEqual(
      [...getService(state, KEY).endpoints.members()].map(({ addresses }) => addresses),
      [['10.0.0.77']],
    );
  });

  test('removed and added in one batch are gone: removals come last', () => {
    const state = meshOf(service('web'), member('a'));
    const again = member('a');
    state.apply({ typeUrl: ADDRESS_TYPE, updated: [again, member('b')], removed: [again.name] });
    assert.deepEqual(endpoints(state), ['b']);
  });
});

describe('the state', () => {
  test('counts a generation for every change and for nothing else', () => {
    const state = new MeshState();
    const steps: number[] = [];
    const step = (act: () => void) => {
      act();
      steps.push(state.generation);
    };
    step(() => change(state, service('web'), policy('p')));
    step(() => remove(state, service('nobody')));
    step(() =>
      state.apply({
        typeUrl: ADDRESS_TYPE,
        updated: [{ name: 'x', version: '', bytes: Uint8Array.of(255) }],
        removed: [],
      }),
    );
    step(() => remove(state, policy('p')));
    assert.deepEqual(steps, [2, 2, 2, 3]);
  });

  test('takes a removal for a workload uid first and for a service key next', () => {
    const state = meshOf(service('web'), workload('odd', { uid: KEY, ips: ['10.0.0.1'] }));
    const removal = { typeUrl: ADDRESS_TYPE, updated: [], removed: [KEY] };
    state.apply(removal);
    assert.deepEqual(state.sizes, { workloads: 0, services: 1, policies: 0 });
    state.apply(removal);
    assert.deepEqual(state.sizes, { workloads: 0, services: 0, policies: 0 });
  });

  test('of a large mesh stays small and is built quickly', () => {
    const count = 20_000;
    const updated = Array.from({ length: count }, (_, i) =>
      workload(`app-${i % 400}-7d9f8b6c5d-${i}`, {
        namespace: `ns-${i % 100}`,
        ips: [`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`],
        node: `node-${i % 200}`,
        serviceAccount: `app-${i % 400}`,
        workloadName: `app-${i % 400}`,
        services: { [`ns-${i % 100}/app-${i % 400}.ns-${i % 100}.svc.cluster.local`]: { 80: 8080 } },
        authorizationPolicies: ['istio-system/istio_converted_static_strict'],
      }),
    );
    const state = new MeshState();
    const startedMs = performance.now();
    assert.deepEqual(state.apply({ typeUrl: ADDRESS_TYPE, updated, removed: [] }).errors, []);
    assert.ok(performance.now() - startedMs < 10_000);
    const [first, second] = [...state.workloads()].filter(({ name }) => name.startsWith('app-7-'));
    assert.equal(first?.memberships, second?.memberships, 'equal memberships are one object');
    assert.equal(first?.identities, second?.identities, 'equal identities are one object');
    assert.equal(first?.authorizationPolicies, second?.authorizationPolicies, 'equal policy lists are one object');
    state.apply({ typeUrl: ADDRESS_TYPE, updated: [], removed: updated.map(({ name }) => name) });
    assert.deepEqual(state.sizes, { workloads: 0, services: 0, policies: 0 });
    assert.deepEqual([...state.stagedEndpoints()], []);
  });
});
