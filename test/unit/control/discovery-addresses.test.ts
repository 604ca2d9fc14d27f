/** Automatic addresses of ServiceEntry hosts: stable, never shared, from their pools, for those that want them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ADDRESS_POOL_SIZE,
  type AddressClaimant,
  allocateAddresses,
  type HostAddress,
} from '../../../control/discovery/allocate-addresses.ts';
import { addressClaimant } from '../../../control/discovery/service-entry.ts';
import { cidrContains, getIp, ipToBytes, parseCidr } from '../../../core/ip.ts';
import { meshObjects, yamlOf } from '../../support/mesh.ts';

function claimant(name: string, rest: Partial<AddressClaimant> = {}): AddressClaimant {
  return { name, createdMs: 0, hosts: ['a.example'], current: [], ...rest };
}

const valuesOf = (addresses: readonly HostAddress[] | undefined): string[] => (addresses ?? []).map((one) => one.value);

test('a host gets one address of each pool', () => {
  const { writes, exhausted } = allocateAddresses([claimant('shop/x')]);
  const written = writes.get('shop/x') ?? [];
  assert.deepEqual(
    written.map((one) => one.host),
    ['a.example', 'a.example'],
  );
  const [v4 = '', v6 = ''] = valuesOf(written);
  for (const [pool, value] of [
    ['240.240.0.0/16', v4],
    ['2001:2::/48', v6],
  ] as const) {
    const block = parseCidr(pool);
    assert.ok(block !== undefined && cidrContains(block, ipToBytes(getIp(value))), value);
  }
  assert.deepEqual(exhausted, []);
});

test('what stands in the status stays, and nothing is written again', () => {
  const first =
    allocateAddresses([claimant('shop/x', { hosts: ['a.example', 'b.example'] })]).writes.get('shop/x') ?? [];
  const again = allocateAddresses([claimant('shop/x', { hosts: ['a.example', 'b.example'], current: first })]);
  assert.equal(again.writes.size, 0);
});

test('an entry that is deleted and comes back has the same addresses', () => {
  const others = [claimant('shop/y'), claimant('shop/z')];
  const before = allocateAddresses([...others, claimant('shop/x')]).writes.get('shop/x');
  assert.deepEqual(allocateAddresses([claimant('shop/x')]).writes.get('shop/x'), before);
});

test('of two entries with the same address the older keeps it, whatever their order', () => {
  const current = allocateAddresses([claimant('shop/x')]).writes.get('shop/x') ?? [];
  const old = claimant('shop/old', { createdMs: 1, current });
  const young = claimant('shop/young', { createdMs: 2, current });
  for (const entries of [
    [old, young],
    [young, old],
  ]) {
    const { writes } = allocateAddresses(entries);
    assert.deepEqual([...writes.keys()], ['shop/young']);
    assert.notDeepEqual(valuesOf(writes.get('shop/young')), valuesOf(current));
  }
});

test('an address that is reserved is not given out, and one that is stated by somebody is taken away', () => {
  const [v4 = ''] = valuesOf(allocateAddresses([claimant('shop/x')]).writes.get('shop/x'));
  const other = allocateAddresses([claimant('shop/x')], new Set([getIp(v4)])).writes.get('shop/x');
  assert.notEqual(valuesOf(other)[0], v4);
});

test('a host that is gone gives its addresses back, and one that wants none has them removed', () => {
  const current =
    allocateAddresses([claimant('shop/x', { hosts: ['a.example', 'b.example'] })]).writes.get('shop/x') ?? [];
  const { writes } = allocateAddresses([claimant('shop/x', { hosts: ['b.example'], current })]);
  assert.deepEqual(writes.get('shop/x'), current.slice(2));
  assert.deepEqual(allocateAddresses([claimant('shop/x', { hosts: [], current })]).writes.get('shop/x'), []);
});

test('addresses of others, or of no pool at all, are replaced', () => {
  for (const value of ['10.0.0.1', '240.240.0.0', '240.240.255.255', 'x', '240.240.999.1']) {
    const { writes } = allocateAddresses([claimant('shop/x', { current: [{ host: 'a.example', value }] })]);
    assert.ok(valuesOf(writes.get('shop/x')).every((one) => one !== value));
  }
});

test('a full pool says whom it could not serve, and everybody else keeps what he has', () => {
  const hosts = Array.from({ length: ADDRESS_POOL_SIZE + 1 }, (_, index) => `h${index}.example`);
  const { writes, exhausted } = allocateAddresses([claimant('shop/x', { hosts })]);
  assert.equal(new Set(valuesOf(writes.get('shop/x'))).size, 2 * ADDRESS_POOL_SIZE);
  assert.deepEqual(exhausted, [`shop/x h${ADDRESS_POOL_SIZE}.example`]);
});

test('no address is ever given twice, and a second run has nothing to do', () => {
  const entry = fc.record({
    name: fc.nat(20).map((index) => `shop/e${index}`),
    createdMs: fc.nat(3),
    hosts: fc.uniqueArray(fc.constantFrom('a.example', 'b.example', 'c.example'), { maxLength: 3 }),
    current: fc.array(
      fc.record({
        host: fc.constantFrom('a.example', 'b.example', ''),
        value: fc.nat(5).map((low) => `240.240.0.${low}`),
      }),
      { maxLength: 3 },
    ),
  });
  fc.assert(
    fc.property(fc.uniqueArray(entry, { maxLength: 12, selector: (one) => one.name }), (entries) => {
      const { writes } = allocateAddresses(entries);
      const after = entries.map((one) => ({ ...one, current: writes.get(one.name) ?? one.current }));
      const values = after.flatMap((one) => valuesOf(one.current));
      assert.equal(new Set(values).size, values.length);
      assert.equal(allocateAddresses(after).writes.size, 0);
    }),
    { numRuns: 300 },
  );
});

const WANTS: [name: string, spec: object, labels: object, hosts: string[]][] = [
  ['resolved, without addresses', {}, {}, ['a.example']],
  ['with addresses of its own', { addresses: ['192.0.2.1'] }, {}, []],
  ['not resolved', { resolution: 'NONE' }, {}, []],
  ['opted out', {}, { 'networking.istio.io/enable-autoallocate-ip': 'false' }, []],
  ['opted in', {}, { 'networking.istio.io/enable-autoallocate-ip': 'true' }, ['a.example']],
  ['wildcard without resolution per request', { hosts: ['*.example'], resolution: 'STATIC' }, {}, []],
  ['wildcard with resolution per request', { hosts: ['*.example'], resolution: 'DYNAMIC_DNS' }, {}, ['*.example']],
];
for (const [name, spec, labels, hosts] of WANTS) {
  test(`hosts of an entry that get addresses: ${name}`, () => {
    const full = { hosts: ['a.example'], ports: [{ number: 80, name: 'h' }], resolution: 'DNS', ...spec };
    const yaml = yamlOf(
      'networking.istio.io/v1',
      'ServiceEntry',
      { name: 'x', namespace: 'shop', labels },
      { spec: full },
    );
    const [entry] = meshObjects(yaml);
    assert.deepEqual(entry?.kind === 'ServiceEntry' ? addressClaimant(entry).hosts : undefined, hosts);
  });
}
