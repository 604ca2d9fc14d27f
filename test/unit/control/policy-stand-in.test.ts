/** What is in force while a policy cannot be read: never more than any reading of it would let through. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Action, Scope } from '../../../api/gen/istio/security/authorization_pb.js';
import { type MeshObject, objectKey } from '../../../control/objects/object.ts';
import { standInFor } from '../../../control/objects/policy-stand-in.ts';
import { convertAuthorizationPolicy } from '../../../control/policy/authorization.ts';
import type { ChangeSet, SourceProblem } from '../../../control/sources/source.ts';
import { withStandIns } from '../../../control/sources/stand-ins.ts';
import { isRecord } from '../../../core/decoder.ts';

const META = { name: 'p', namespace: 'shop' };

function policy(spec: unknown, metadata: unknown = META): unknown {
  return { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata, spec };
}

/** `ALLOW nothing to namespace`, `DENY all to selector app=a`, `nothing`. */
function meaning(value: unknown): string {
  const found = standInFor('AuthorizationPolicy', value, 'spec.rule is not a field');
  if (found?.kind !== 'AuthorizationPolicy') return 'nothing';
  const { authorization, condition } = convertAuthorizationPolicy(found, 'istio-system');
  assert.equal(condition.status, 'False');
  assert.equal(condition.reason, 'Invalid');
  assert.match(condition.message, /spec\.rule is not a field\. Until it is corrected/);
  assert.ok(authorization);
  const labels = [...(found.selector ?? [])].map(([key, of]) => `${key}=${of}`).join();
  const extent = authorization.groups.length === 0 ? 'nothing' : 'all';
  return `${Action[authorization.action]} ${extent} to ${Scope[authorization.scope]}${labels === '' ? '' : ` ${labels}`}`;
}

const CASES: [name: string, value: unknown, expected: string][] = [
  ['an ALLOW by default', policy({ rule: [] }), 'ALLOW nothing to NAMESPACE'],
  ['an ALLOW', policy({ action: 'ALLOW', rule: [] }), 'ALLOW nothing to NAMESPACE'],
  ['a DENY', policy({ action: 'DENY', rule: [] }), 'DENY all to NAMESPACE'],
  ['an action that cannot be read', policy({ action: 'deny' }), 'DENY all to NAMESPACE'],
  ['a spec that is no object', policy([]), 'DENY all to NAMESPACE'],
  ['in the root namespace', policy({ rule: 1 }, { name: 'p', namespace: 'istio-system' }), 'ALLOW nothing to GLOBAL'],
  [
    'with a selector',
    policy({ selector: { matchLabels: { app: 'a' } }, action: 'DENY', rule: 1 }),
    'DENY all to WORKLOAD_SELECTOR app=a',
  ],
  [
    'a selector that cannot be read',
    policy({ selector: { matchLabels: { app: 'a*' } } }),
    'ALLOW nothing to NAMESPACE',
  ],
  [
    'selector and targetRefs together',
    policy({ selector: { matchLabels: { app: 'a' } }, targetRefs: [{ kind: 'Service', name: 'a' }] }),
    'ALLOW nothing to WORKLOAD_SELECTOR app=a',
  ],
  ['metadata of which only the name can be read', policy({}, { ...META, labels: 7 }), 'ALLOW nothing to NAMESPACE'],
  ['no readable name', policy({}, { name: 7 }), 'nothing'],
  ['attached by targetRefs', policy({ targetRefs: [{ kind: 'Pod', name: 'a' }] }), 'nothing'],
  ['a dry run', policy({ rule: 1 }, { ...META, annotations: { 'istio.io/dry-run': 'true' } }), 'nothing'],
  ['AUDIT', policy({ action: 'AUDIT', rule: 1 }), 'nothing'],
  ['CUSTOM', policy({ action: 'CUSTOM' }), 'nothing'],
];

for (const [name, value, expected] of CASES) {
  test(`in place of an unreadable policy: ${name}`, () => assert.equal(meaning(value), expected));
}

test('in place of an unreadable PeerAuthentication stands STRICT, without exceptions', () => {
  const value = { metadata: META, spec: { selector: { matchLabels: { app: 'a' } }, portLevelMtls: { x: {} } } };
  const found = standInFor('PeerAuthentication', value, 'reason');
  assert.equal(found?.kind === 'PeerAuthentication' && found.mode, 'STRICT');
  assert.deepEqual([...(found?.selector ?? [])], [['app', 'a']]);
});

test('nothing stands in for other kinds, whatever the value', () => {
  for (const value of [undefined, null, 7, [], {}, { metadata: META }]) {
    assert.equal(standInFor('Service', value, ''), undefined);
    if (!isRecord(value) || value.metadata === undefined)
      assert.equal(standInFor('AuthorizationPolicy', value, ''), undefined);
  }
});

function openSink(): { log: string[]; sink: ReturnType<typeof withStandIns> } {
  const log: string[] = [];
  const name = (object: MeshObject) =>
    object.kind === 'AuthorizationPolicy' && object.standsInFor !== undefined
      ? `stand-in ${object.action}`
      : objectKey(object);
  const sink = withStandIns({
    changed: ({ upserted, removed }: ChangeSet) => log.push(`+${upserted.map(name).join()} -${removed.join()}`),
    synced: () => log.push('synced'),
    problems: (current) => log.push(`${current.length} problems`),
  });
  return { log, sink };
}

function problem(spec: unknown): SourceProblem {
  const standIn = standInFor('AuthorizationPolicy', policy(spec), 'why');
  return {
    severity: 'error',
    where: 'a',
    line: undefined,
    object: 'AuthorizationPolicy/shop/p',
    reason: 'why',
    standIn,
  };
}

function good(): MeshObject {
  const found = standInFor('AuthorizationPolicy', policy({}), '');
  assert.ok(found?.kind === 'AuthorizationPolicy');
  const { standsInFor: _, ...written } = found;
  return written;
}

test('a policy never seen valid is replaced at once, before the source is synced', () => {
  const { log, sink } = openSink();
  sink.problems([problem({ rule: 1 })]);
  sink.synced();
  assert.deepEqual(log, ['+stand-in ALLOW -', '1 problems', 'synced']);
});

test('a stand-in follows the object, is told once, and goes with it', () => {
  const { log, sink } = openSink();
  sink.problems([problem({ rule: 1 })]);
  sink.problems([problem({ rule: 2 })]);
  sink.problems([problem({ action: 'DENY', rule: 2 })]);
  sink.problems([]);
  assert.deepEqual(log, [
    '+stand-in ALLOW -',
    '1 problems',
    '1 problems',
    '+stand-in DENY -',
    '1 problems',
    '+ -AuthorizationPolicy/shop/p',
    '0 problems',
  ]);
});

test('a good version replaces the stand-in, and is kept when the object becomes unreadable again', () => {
  const { log, sink } = openSink();
  sink.problems([problem({ rule: 1 })]);
  sink.changed({ upserted: [good()], removed: [] });
  sink.problems([]);
  sink.problems([problem({ rule: 1 })]);
  assert.deepEqual(log.slice(2), ['+AuthorizationPolicy/shop/p -', '0 problems', '1 problems']);
});

test('an object that was removed and comes back unreadable has no good version', () => {
  const { log, sink } = openSink();
  sink.changed({ upserted: [good()], removed: [] });
  sink.changed({ upserted: [], removed: ['AuthorizationPolicy/shop/p'] });
  sink.problems([problem({ rule: 1 })]);
  assert.deepEqual(log.slice(2), ['+stand-in ALLOW -', '1 problems']);
});
