/** Names behind names (LookupWorkloads, AddressInformation), and who may see what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ResourceIndex } from '../../../control/discovery/lookup.ts';
import { visible } from '../../../control/discovery/visibility.ts';

interface Facts {
  aliases?: string[];
  services?: string[];
  node?: string;
  waypoints?: string[];
}

const facts = (name: string, of: Facts = {}) => ({ name, aliases: [], services: [], node: '', ...of });

test('a name means itself, an address the workloads and services that have it, anything else nothing (WorkloadNotFound)', () => {
  const index = new ResourceIndex();
  index.add(facts('c//Pod/shop/a', { aliases: ['n1/10.0.0.1', 'n1/fd00::1'] }));
  index.add(facts('shop/web.example', { aliases: ['n1/10.96.0.1'] }));
  assert.deepEqual(index.resolve('c//Pod/shop/a'), ['c//Pod/shop/a']);
  assert.deepEqual(index.resolve('n1/10.0.0.1'), ['c//Pod/shop/a']);
  assert.deepEqual(index.resolve('n1/fd00::1'), ['c//Pod/shop/a']);
  assert.deepEqual(index.resolve('n1/10.96.0.1'), ['shop/web.example']);
  for (const key of ['n2/10.0.0.1', '/10.0.0.1', 'n1/10.0.0.2', 'n1/x', 'x', ''])
    assert.deepEqual(index.resolve(key), [], key);
});

test('an address that several have means all of them, until they are gone', () => {
  const index = new ResourceIndex();
  const names = ['a', 'b', 'c'];
  for (const name of names) index.add(facts(name, { aliases: ['/10.0.0.1'] }));
  assert.deepEqual(index.resolve('/10.0.0.1'), names);
  index.remove(facts('b', { aliases: ['/10.0.0.1'] }));
  assert.deepEqual(index.resolve('/10.0.0.1'), ['a', 'c']);
  index.remove(facts('a', { aliases: ['/10.0.0.1'] }));
  index.remove(facts('c', { aliases: ['/10.0.0.1'] }));
  assert.deepEqual(index.resolve('/10.0.0.1'), []);
});

test('an address inside of a block means the service of the block, the longest prefix first', () => {
  const index = new ResourceIndex();
  index.add(facts('wide', { aliases: ['n1/192.0.2.0/24'] }));
  index.add(facts('narrow', { aliases: ['n1/192.0.2.128/25'] }));
  index.add(facts('exact', { aliases: ['n1/192.0.2.200'] }));
  assert.deepEqual(index.resolve('n1/192.0.2.129'), ['narrow', 'wide']);
  assert.deepEqual(index.resolve('n1/192.0.2.1'), ['wide']);
  assert.deepEqual(index.resolve('n1/192.0.2.200'), ['exact']);
  assert.deepEqual(index.resolve('n1/192.0.2.0/24'), ['wide']);
  assert.deepEqual(index.resolve('n2/192.0.2.1'), []);
  index.remove(facts('narrow', { aliases: ['n1/192.0.2.128/25'] }));
  assert.deepEqual(index.resolve('n1/192.0.2.129'), ['wide']);
});

test('a service leads to its endpoints, a node to its workloads, a waypoint to what is behind it', () => {
  const index = new ResourceIndex();
  const a = facts('a', { services: ['s1', 's2'], node: 'node-a', waypoints: ['shop/wp.example'] });
  const b = facts('b', { services: ['s1'], node: 'node-a' });
  index.add(a);
  index.add(b);
  assert.deepEqual([...index.membersOf('s1')], ['a', 'b']);
  assert.deepEqual([...index.membersOf('s2')], ['a']);
  assert.deepEqual([...index.onNode('node-a')], ['a', 'b']);
  assert.deepEqual([...index.behind('shop/wp.example')], ['a']);
  index.remove(a);
  assert.deepEqual([...index.membersOf('s1')], ['b']);
  assert.deepEqual([...index.membersOf('s2')], []);
  assert.deepEqual([...index.onNode('node-a')], ['b']);
  assert.deepEqual([...index.behind('shop/wp.example')], []);
});

const VIEWERS: [privateTo: string, namespace: string, servesNode: boolean, expected: boolean][] = [
  ['', 'shop', false, true],
  ['shop', 'shop', false, true],
  ['shop', 'other', false, false],
  ['shop', 'istio-system', true, true],
];
for (const [privateTo, namespace, servesNode, expected] of VIEWERS) {
  const who = `${servesNode ? 'an agent of a node' : 'a caller'} in ${namespace}`;
  test(`${who} ${expected ? 'sees' : 'does not see'} what is private to ${privateTo || 'nobody'}`, () => {
    assert.equal(visible({ privateTo }, { namespace, servesNode }), expected);
  });
}
