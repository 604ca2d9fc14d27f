import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MeshState } from '../../../agent/state/mesh-state.ts';
import { getIp } from '../../../core/ip.ts';
import { change, getService, meshOf, remove, service, workload } from '../../support/mesh-resources.ts';

/** As outbound routing looks: the exact address first, blocks next. */
function find(state: MeshState, ip: string, client?: string, network = ''): string | undefined {
  const address = getIp(ip);
  const found = state.findServiceByVip(network, address, client) ?? state.findServiceByCidr(network, address, client);
  return found === undefined ? undefined : `${found.namespace}/${found.name}`;
}

const inNamespace = (namespace: string, fields: Parameters<typeof service>[1]) =>
  service('web', { namespace, ...fields });

describe('an exact address', () => {
  test('shared by two namespaces belongs to the one of the client, and each goes on its own', () => {
    const a = inNamespace('a', { vips: ['10.1.0.1'] });
    const b = inNamespace('b', { vips: ['10.1.0.1'] });
    const state = meshOf(a, b);
    assert.deepEqual(
      ['a', 'b', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', 'b/web', 'a/web'],
    );
    remove(state, a);
    assert.deepEqual(
      ['a', 'b', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['b/web', 'b/web', 'b/web'],
    );
    remove(state, b);
    assert.equal(find(state, '10.1.0.1', 'a'), undefined);
  });

  test('shared within one namespace survives the removal of either', () => {
    const one = service('one', { vips: ['10.1.0.1'] });
    const two = service('two', { vips: ['10.1.0.1'] });
    const state = meshOf(one, two);
    remove(state, one);
    assert.equal(find(state, '10.1.0.1', 'default'), 'default/two');
    change(state, one);
    remove(state, two);
    assert.equal(find(state, '10.1.0.1', 'default'), 'default/one');
  });

  test('belongs to the canonical service when the client has none of its own', () => {
    const state = meshOf(
      inNamespace('a', { vips: ['10.1.0.1'] }),
      inNamespace('b', { vips: ['10.1.0.1'], canonical: true }),
    );
    assert.deepEqual(
      ['a', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', 'b/web'],
    );
  });

  test('of a private service is seen from its namespace only', () => {
    const state = meshOf(inNamespace('a', { vips: ['10.1.0.1'], visibility: 1 }));
    assert.deepEqual(
      ['a', 'b', undefined].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', undefined, 'a/web'],
    );
  });

  test('of a private service leaves a public one of the same address visible', () => {
    const state = meshOf(
      inNamespace('a', { vips: ['10.1.0.1'], visibility: 1 }),
      inNamespace('b', { vips: ['10.1.0.1'] }),
    );
    assert.deepEqual(
      ['a', 'b', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', 'b/web', 'b/web'],
    );
  });

  test('that is not visible falls through to a block', () => {
    const state = meshOf(
      inNamespace('a', { vips: ['10.1.0.1'], visibility: 1 }),
      inNamespace('b', { vips: ['/10.0.0.0/8'] }),
    );
    assert.deepEqual(
      ['a', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', 'b/web'],
    );
  });

  test('moves with an update of the service', () => {
    const state = meshOf(service('web', { vips: ['10.1.0.1'] }));
    change(state, service('web', { vips: ['10.1.0.2'] }));
    assert.deepEqual([find(state, '10.1.0.1'), find(state, '10.1.0.2')], [undefined, 'default/web']);
  });

  test('listed twice is removed whole', () => {
    const twice = service('web', { vips: ['10.1.0.1', '10.1.0.1'] });
    const state = meshOf(twice);
    remove(state, twice);
    assert.equal(find(state, '10.1.0.1'), undefined);
  });

  test('belongs to its network', () => {
    const state = meshOf(service('web', { vips: ['remote/10.1.0.1'] }));
    assert.deepEqual(
      [find(state, '10.1.0.1'), find(state, '10.1.0.1', undefined, 'remote')],
      [undefined, 'default/web'],
    );
  });
});

describe('a block', () => {
  for (const [family, wide, narrow, inside, only, outside] of [
    ['IPv4', '/10.0.0.0/8', '/10.1.0.0/16', '10.1.2.3', '10.2.0.1', '11.0.0.1'],
    ['IPv6', '/2001:db8::/32', '/2001:db8:1::/48', '2001:db8:1::7', '2001:db8:2::7', '2001:db9::1'],
  ] as const) {
    test(`of ${family} contains what it contains`, () => {
      const state = meshOf(service('wide', { vips: [wide] }));
      assert.deepEqual(
        [inside, only, outside].map((ip) => find(state, ip)),
        ['default/wide', 'default/wide', undefined],
      );
    });

    test(`of ${family} gives way to a longer one, whatever the order of arrival`, () => {
      for (const order of [
        [service('wide', { vips: [wide] }), service('narrow', { vips: [narrow] })],
        [service('narrow', { vips: [narrow] }), service('wide', { vips: [wide] })],
      ])
        assert.deepEqual(
          [inside, only].map((ip) => find(meshOf(...order), ip)),
          ['default/narrow', 'default/wide'],
        );
    });

    test(`of ${family} gives way to an exact address`, () => {
      const state = meshOf(service('wide', { vips: [wide] }), service('exact', { vips: [`/${inside}`] }));
      assert.deepEqual(
        [inside, only].map((ip) => find(state, ip)),
        ['default/exact', 'default/wide'],
      );
    });
  }

  test('of one family says nothing about the other, also beside an exact address', () => {
    const state = meshOf(
      service('v4', { vips: ['/0.0.0.0/0'] }),
      service('both', { vips: ['10.1.0.1', '/2001:db8::/32'] }),
    );
    assert.deepEqual(
      ['10.1.0.1', '10.1.0.2', '2001:db8::1', '2001:db9::1'].map((ip) => find(state, ip)),
      ['default/both', 'default/v4', 'default/both', undefined],
    );
  });

  test('of a dual-stack service covers both families', () => {
    const state = meshOf(service('web', { vips: ['/10.0.0.0/8', '/2001:db8::/32'] }));
    assert.deepEqual(
      ['10.9.9.9', '2001:db8::9'].map((ip) => find(state, ip)),
      ['default/web', 'default/web'],
    );
  });

  test('of the whole length is an exact address', () => {
    const state = meshOf(service('web', { vips: ['/10.1.0.1/32'] }));
    assert.equal(state.findServiceByVip('', getIp('10.1.0.1'))?.name, 'web');
  });

  test('belongs to its network', () => {
    const state = meshOf(service('web', { vips: ['remote/10.0.0.0/8'] }));
    assert.deepEqual(
      [find(state, '10.1.0.1'), find(state, '10.1.0.1', undefined, 'remote')],
      [undefined, 'default/web'],
    );
  });

  test('goes with its service', () => {
    const web = service('web', { vips: ['/10.0.0.0/8', '/10.1.0.0/16'] });
    const state = meshOf(web);
    remove(state, web);
    assert.equal(find(state, '10.1.0.1'), undefined);
  });

  test('shared by namespaces belongs to the one of the client', () => {
    const state = meshOf(inNamespace('a', { vips: ['/10.0.0.0/8'] }), inNamespace('b', { vips: ['/10.0.0.0/8'] }));
    assert.deepEqual(
      ['a', 'b', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', 'b/web', 'a/web'],
    );
  });

  test("of the client's namespace comes before a longer one of another", () => {
    const state = meshOf(inNamespace('a', { vips: ['/10.0.0.0/8'] }), inNamespace('b', { vips: ['/10.1.0.0/16'] }));
    assert.deepEqual(
      ['a', 'b', 'c'].map((client) => find(state, '10.1.0.1', client)),
      ['a/web', 'b/web', 'b/web'],
    );
  });

  test('leads to the endpoints of now, not of when it was first announced', () => {
    const state = meshOf(service('web', { vips: ['/10.0.0.0/8'] }));
    for (const name of ['a', 'b'])
      change(state, workload(name, { ips: ['10.0.0.2'], services: { 'default/web.default.svc': {} } }));
    change(state, service('web', { vips: ['/10.0.0.0/8'], ports: { 81: 81 } }));
    const found = state.findServiceByCidr('', getIp('10.1.0.1'));
    assert.equal(found, getService(state, 'default/web.default.svc'));
    assert.equal(found?.endpoints.size, 2);
  });
});

describe('a host name', () => {
  test('belongs to every service of that name', () => {
    const a = inNamespace('a', { hostname: 'web.example' });
    const state = meshOf(a, inNamespace('b', { hostname: 'web.example' }));
    assert.deepEqual(
      state.findServicesByHostname('web.example').map(({ namespace }) => namespace),
      ['a', 'b'],
    );
    assert.equal(state.findService('b', 'web.example')?.namespace, 'b');
    remove(state, a);
    assert.deepEqual(
      state.findServicesByHostname('web.example').map(({ namespace }) => namespace),
      ['b'],
    );
  });
});
