import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pickFrom, pickOther, pickTable } from '../../../agent/route/pick-table.ts';
import type { MeshState } from '../../../agent/state/mesh-state.ts';
import { change, getService, getWorkload, meshOf, remove, service, workload } from '../../support/mesh-resources.ts';

const KEY = 'default/web.default.svc';
const MODE = { all: 0, strict: 1, failover: 2 } as const;
const SCOPE = { region: 1, zone: 2, subzone: 3, node: 4, cluster: 5, network: 6 } as const;

function endpoint(name: string, fields: Parameters<typeof workload>[1] = {}) {
  return workload(name, { ips: ['10.0.0.2'], services: { [KEY]: {} }, ...fields });
}

function names(state: MeshState): string[] {
  const table = pickTable(getService(state, KEY), 80, getWorkload(state, 'client'));
  return table.endpoints.map(({ name }) => name).sort();
}

function place(region: string, zone = '', subzone = '', node = 'node-9') {
  return { locality: { region, zone, subzone }, node };
}

describe('locality', () => {
  const client = workload('client', { ips: ['10.0.0.1'], ...place('r', 'z', 's', 'node-1') });
  const endpoints = [
    endpoint('elsewhere', place('x')),
    endpoint('same-region', place('r', 'x')),
    endpoint('same-zone', place('r', 'z', 'x')),
    endpoint('same-zone-name-elsewhere', place('x', 'z', 's')),
    endpoint('same-node', place('r', 'z', 's', 'node-1')),
  ];
  const cases: [string, number, number[], string[]][] = [
    [
      'without a mode every endpoint counts',
      MODE.all,
      [SCOPE.region],
      ['elsewhere', 'same-node', 'same-region', 'same-zone', 'same-zone-name-elsewhere'],
    ],
    ['STRICT takes those that match every scope', MODE.strict, [SCOPE.region, SCOPE.zone], ['same-node', 'same-zone']],
    [
      'STRICT without scopes takes all',
      MODE.strict,
      [],
      ['elsewhere', 'same-node', 'same-region', 'same-zone', 'same-zone-name-elsewhere'],
    ],
    [
      'STRICT takes none rather than a worse one',
      MODE.strict,
      [SCOPE.region, SCOPE.cluster, SCOPE.subzone, SCOPE.node],
      ['same-node'],
    ],
    [
      'FAILOVER takes the best rank only',
      MODE.failover,
      [SCOPE.region, SCOPE.zone, SCOPE.subzone, SCOPE.node],
      ['same-node'],
    ],
    [
      'scopes are compared one by one, not nested',
      MODE.failover,
      [SCOPE.zone],
      ['same-node', 'same-zone', 'same-zone-name-elsewhere'],
    ],
    ['counting stops at the first scope that differs', MODE.failover, [SCOPE.node, SCOPE.region], ['same-node']],
  ];
  for (const [name, mode, routingPreference, expected] of cases)
    test(name, () => {
      const loadBalancing = { mode, routingPreference };
      assert.deepEqual(names(meshOf(client, service('web', { loadBalancing }), ...endpoints)), expected);
    });

  test('STRICT with no full match is empty', () => {
    const loadBalancing = { mode: MODE.strict, routingPreference: [SCOPE.subzone] };
    assert.deepEqual(names(meshOf(client, service('web', { loadBalancing }), endpoint('elsewhere', place('x')))), []);
  });

  test('FAILOVER takes the next best when the best goes', () => {
    const loadBalancing = { mode: MODE.failover, routingPreference: [SCOPE.region, SCOPE.zone] };
    const near = endpoint('near', place('r', 'z'));
    const state = meshOf(client, service('web', { loadBalancing }), near, endpoint('far', place('r', 'x')));
    assert.deepEqual(names(state), ['near']);
    remove(state, near);
    assert.deepEqual(names(state), ['far']);
  });

  test('an endpoint on the network of the client comes before any other, even one that ranks higher', () => {
    const loadBalancing = { mode: MODE.failover, routingPreference: [SCOPE.network, SCOPE.region] };
    const remote = endpoint('remote', { ...place('r'), network: 'remote' });
    const state = meshOf(client, service('web', { loadBalancing }), remote, endpoint('local', place('x')));
    assert.deepEqual(names(state), ['local']);
    assert.equal(pickTable(getService(state, KEY), 80, getWorkload(state, 'client')).remoteOnly, false);
    const alone = meshOf(client, service('web', { loadBalancing }), remote);
    assert.equal(pickTable(getService(alone, KEY), 80, getWorkload(alone, 'client')).remoteOnly, true);
  });

  test('clients at different places get different tables', () => {
    const loadBalancing = { mode: MODE.failover, routingPreference: [SCOPE.region] };
    const state = meshOf(
      client,
      workload('second', { ips: ['10.0.0.5'], ...place('x') }),
      service('web', { loadBalancing }),
      ...endpoints,
    );
    const web = getService(state, KEY);
    const second = pickTable(web, 80, getWorkload(state, 'second'));
    assert.deepEqual(second.endpoints.map(({ name }) => name).sort(), ['elsewhere', 'same-zone-name-elsewhere']);
    assert.deepEqual(names(state), ['same-node', 'same-region', 'same-zone']);
    assert.equal(pickTable(web, 80, getWorkload(state, 'second')), second, 'the table is kept');
  });
});

describe('what is never picked', () => {
  const client = workload('client', { ips: ['10.0.0.1'] });
  const mesh = (...endpoints: ReturnType<typeof workload>[]) => meshOf(client, service('web'), ...endpoints);

  test('an endpoint without an address', () => {
    assert.deepEqual(names(mesh(endpoint('named', { ips: [], hostname: 'db.example' }), endpoint('ok'))), ['ok']);
  });

  test('an endpoint of weight zero, also when there is no other', () => {
    assert.deepEqual(names(mesh(endpoint('zero', { capacity: 0 }))), []);
  });

  test('an unhealthy endpoint, unless the service takes all', () => {
    const state = mesh(endpoint('sick', { status: 1 }), endpoint('ok'));
    assert.deepEqual(names(state), ['ok']);
    change(state, service('web', { loadBalancing: { healthPolicy: 1 } }));
    assert.deepEqual(names(state), ['ok', 'sick']);
    change(state, service('web'));
    assert.deepEqual(names(state), ['ok']);
  });
});

describe('weights', () => {
  function shares(capacities: readonly number[]): number[] {
    const state = meshOf(
      workload('client', { ips: ['10.0.0.1'] }),
      service('web'),
      ...capacities.map((capacity, index) => endpoint(`e${index}`, { capacity })),
    );
    const table = pickTable(getService(state, KEY), 80, getWorkload(state, 'client'));
    const counts = capacities.map(() => 0);
    for (let i = 0; i < 10_000; i++) {
      const index = Number(pickFrom(table, () => i / 10_000)?.name.slice(1));
      counts[index] = (counts[index] ?? 0) + 1;
    }
    return counts;
  }

  test('that are equal share evenly', () => assert.deepEqual(shares([1, 1, 1, 1]), [2500, 2500, 2500, 2500]));
  test('that differ share in proportion', () => assert.deepEqual(shares([1, 3, 0, 4]), [1250, 3750, 0, 5000]));
  test('as large as the field holds do not overflow', () => {
    const [a = 0, b = 0] = shares([0xffffffff, 0xffffffff, 1]);
    assert.ok(Math.abs(a - 5000) <= 1 && Math.abs(b - 5000) <= 1, `${a} ${b}`);
  });
});

test('another endpoint than the one that could not be reached is picked, any of them, or none', () => {
  const client = workload('client', { ips: ['10.0.0.1'] });
  const three = meshOf(client, service('web'), ...['a', 'b', 'c'].map((name) => endpoint(name)));
  const table = pickTable(getService(three, KEY), 80, getWorkload(three, 'client'));
  const avoided = getWorkload(three, 'b');
  const picked = [0, 0.2, 0.4, 0.6, 0.8, 0.99].map((value) => pickOther(table, avoided, () => value)?.name);
  assert.deepEqual(new Set(picked), new Set(['a', 'c']));
  const one = meshOf(client, service('web'), endpoint('b'));
  const alone = pickTable(getService(one, KEY), 80, getWorkload(one, 'client'));
  assert.equal(
    pickOther(alone, avoided, () => 0),
    undefined,
  );
});
