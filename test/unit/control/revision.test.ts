/** Which control plane an object is for: its label `istio.io/rev`, or everybody. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeObject, identify, type MeshObject } from '../../../control/objects/object.ts';
import { ofRevision } from '../../../control/sources/revision.ts';
import type { ChangeSet } from '../../../control/sources/source.ts';

function object(kind: string, name: string, revision?: string): MeshObject {
  const apiVersion = kind === 'Pod' ? 'v1' : 'security.istio.io/v1';
  const labels = revision === undefined ? {} : { 'istio.io/rev': revision };
  const value = { apiVersion, kind, metadata: { name, namespace: 'shop', labels }, spec: {} };
  const identity = identify(value);
  assert.equal(identity.kind, 'known');
  const decoded = decodeObject(identity.row, value);
  assert.ok(decoded.ok, JSON.stringify(decoded));
  return decoded.value;
}

/** What a control plane of `revision` holds after changes, by name. */
function follow(revision: string) {
  const held = new Set<string>();
  const sink = ofRevision(revision, {
    changed({ upserted, removed }: ChangeSet) {
      assert.ok(upserted.length + removed.length > 0, 'never an empty change');
      for (const key of removed) held.delete(key.split('/').at(-1) ?? '');
      for (const one of upserted) held.add(one.meta.name);
    },
    synced: () => undefined,
    problems: () => undefined,
  });
  return { held, put: (...upserted: MeshObject[]) => sink.changed({ upserted, removed: [] }), sink };
}

test('PolicyRevisionFiltering: a policy of another revision is not ours, one without revision is', () => {
  const { held, put } = follow('green');
  put(
    object('AuthorizationPolicy', 'everybodys'),
    object('AuthorizationPolicy', 'ours', 'green'),
    object('AuthorizationPolicy', 'theirs', 'blue'),
    object('PeerAuthentication', 'theirs-too', 'default'),
  );
  assert.deepEqual([...held], ['everybodys', 'ours']);
});

test('a control plane without a revision takes what is for the default one', () => {
  const { held, put } = follow('');
  put(object('AuthorizationPolicy', 'a', 'default'), object('AuthorizationPolicy', 'b', 'canary'));
  assert.deepEqual([...held], ['a']);
});

test('a policy that is given to another revision goes, and comes back with its label', () => {
  const { held, put, sink } = follow('');
  put(object('AuthorizationPolicy', 'a'));
  put(object('AuthorizationPolicy', 'a', 'canary'));
  assert.deepEqual([...held], []);
  put(object('AuthorizationPolicy', 'a', 'canary'));
  put(object('AuthorizationPolicy', 'a'));
  assert.deepEqual([...held], ['a']);
  put(object('AuthorizationPolicy', 'b', 'canary'));
  sink.changed({ upserted: [], removed: ['AuthorizationPolicy/shop/b'] });
  assert.deepEqual([...held], ['a']);
});

test('pods belong to no revision, whatever their labels say', () => {
  const { held, put } = follow('green');
  put(object('Pod', 'p', 'blue'));
  assert.deepEqual([...held], ['p']);
});
