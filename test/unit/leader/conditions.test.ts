/** What is written into statuses: differences only, by the manager whose they are. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { conditionManagers, conditionsToApply, type StatusCondition } from '../../../control/leader/conditions.ts';
import { appliedTypes, standingConditions } from '../../../control/leader/standing-conditions.ts';

const NOW = '2026-02-02T00:00:00Z';
const BEFORE = '2026-01-01T00:00:00Z';
const accepted = { type: 'ZtunnelAccepted', status: 'True', reason: 'Accepted', message: 'fine' } as const;
const refused = { type: 'ZtunnelAccepted', status: 'False', reason: 'Invalid', message: 'no' } as const;
const waypoint = { type: 'WaypointAccepted', status: 'True', reason: 'Accepted', message: 'fine' } as const;
const [ztunnelManager, waypointManager] = conditionManagers('AuthorizationPolicy');
assert.ok(ztunnelManager !== undefined && waypointManager !== undefined);
const standing = (condition: typeof accepted | typeof refused, observedGeneration = 3): StatusCondition => ({
  ...condition,
  lastTransitionTime: BEFORE,
  observedGeneration,
});

describe('conditions to apply', () => {
  const state = { desired: [accepted], current: [], written: new Set<string>(), generation: 3, now: NOW };

  test('a first condition begins now, for the generation that was judged', () => {
    assert.deepEqual(conditionsToApply(ztunnelManager, state), [
      { ...accepted, lastTransitionTime: NOW, observedGeneration: 3 },
    ]);
  });

  test('nothing is written when it stands already', () => {
    const written = new Set(['ZtunnelAccepted']);
    assert.equal(conditionsToApply(ztunnelManager, { ...state, current: [standing(accepted)], written }), undefined);
  });

  test('a new generation keeps the time of the transition, a new status does not', () => {
    const written = new Set(['ZtunnelAccepted']);
    const [same] = conditionsToApply(ztunnelManager, { ...state, current: [standing(accepted, 2)], written }) ?? [];
    assert.equal(same?.lastTransitionTime, BEFORE);
    assert.equal(same?.observedGeneration, 3);
    const [other] = conditionsToApply(ztunnelManager, { ...state, current: [standing(refused)], written }) ?? [];
    assert.equal(other?.lastTransitionTime, NOW);
  });

  test('each manager writes its own and takes away what it wrote before, nothing else', () => {
    const desired = [accepted, waypoint];
    const types = (manager: typeof ztunnelManager) =>
      conditionsToApply(manager, { ...state, desired })?.map(({ type }) => type);
    assert.deepEqual(types(ztunnelManager), ['ZtunnelAccepted']);
    assert.deepEqual(types(waypointManager), ['WaypointAccepted']);
    const gone = { ...state, desired: [], current: [standing(accepted)], written: new Set(['ZtunnelAccepted']) };
    assert.deepEqual(conditionsToApply(ztunnelManager, gone), []);
    assert.equal(conditionsToApply(waypointManager, gone), undefined);
  });

  test('a condition that somebody else wrote is taken over', () => {
    const current = [standing(accepted)];
    assert.equal(conditionsToApply(ztunnelManager, { ...state, current })?.length, 1);
  });
});

describe('what stands', () => {
  const metadata = { name: 'p', namespace: 'n', uid: 'u', resourceVersion: '1' };
  const entry = (fields: unknown) => ({ manager: 'm', operation: 'Apply', fieldsV1: { 'f:status': fields } });

  test('is read from the status; what cannot be read counts as missing', () => {
    const conditions = [standing(accepted), { type: 'Other', status: 'Unknown' }];
    assert.deepEqual(standingConditions({ metadata, status: { conditions } }), [standing(accepted)]);
    assert.deepEqual(standingConditions({ metadata, status: { conditions: 'x' } }), []);
    assert.deepEqual(standingConditions({ metadata }), []);
  });

  test('is told by manager: by type where the list is a map, all of it where the list is one value', () => {
    const map = { 'f:conditions': { 'k:{"type":"A"}': {}, 'k:{"type":"B"}': {}, 'k:nonsense': {} } };
    const managedFields = [entry(map), { ...entry(map), manager: 'other' }, { ...entry(map), operation: 'Update' }];
    const found = { metadata: { ...metadata, managedFields }, status: { conditions: [standing(accepted)] } };
    assert.deepEqual([...appliedTypes(found, 'm')], ['A', 'B']);
    assert.deepEqual([...appliedTypes(found, 'nobody')], []);
    const whole = { ...found, metadata: { ...metadata, managedFields: [entry({ 'f:conditions': {} })] } };
    assert.deepEqual([...appliedTypes(whole, 'm')], ['ZtunnelAccepted']);
  });
});
