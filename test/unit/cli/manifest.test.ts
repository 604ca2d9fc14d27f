/** Manifests taken apart and compared: what an upgrade says before it does anything. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareLines, compareManifests, countKinds, parseManifest } from '../../../cli/install/manifest.ts';

const ONE = `# a comment
apiVersion: v1
kind: Service
metadata:
  name: istiod
  namespace: istio-system
spec:
  ports: [1, 2]
---
---
apiVersion: v1
kind: Namespace
metadata: { name: shop }
`;

test('a manifest is a list of named objects; empty documents are none', () => {
  const objects = parseManifest(ONE);
  assert.deepEqual(
    objects.map(({ id }) => id),
    ['Service istio-system/istiod', 'Namespace shop'],
  );
  assert.equal(countKinds([...objects, ...objects]), '2 Namespace, 2 Service');
});

test('the order of keys and the way of writing are no difference', () => {
  const other = ONE.replace('ports: [1, 2]', 'ports:\n    - 1\n    - 2').replace(
    'apiVersion: v1\nkind: Service',
    'kind: Service\napiVersion: v1',
  );
  assert.deepEqual(compareManifests(parseManifest(ONE), parseManifest(other)), []);
});

test('what is created, changed and removed is told, changed lines with what is around them', () => {
  const after = `${ONE.replace('[1, 2]', '[1, 3]').replace('name: shop', 'name: office')}`;
  assert.deepEqual(compareManifests(parseManifest(ONE), parseManifest(after)), [
    {
      id: 'Service istio-system/istiod',
      what: 'changed',
      lines: ['  ...', '    ports:', '      - 1', '-     - 2', '+     - 3', '  '],
    },
    { id: 'Namespace office', what: 'created', lines: [] },
    { id: 'Namespace shop', what: 'removed', lines: [] },
  ]);
});

test('lines that come and go are marked', () => {
  assert.deepEqual(compareLines('a\nb\nc', 'a\nc\nd'), ['  a', '- b', '  c', '+ d']);
  assert.deepEqual(compareLines('same', 'same'), []);
});
