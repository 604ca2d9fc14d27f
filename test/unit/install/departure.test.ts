/** Upgrade or removal: only proof of a removal takes things off the node. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeDeparture, type OwnerAnswer } from '../../../agent/install/departure.ts';

const PRESENT: OwnerAnswer = { kind: 'present', deleting: false, selectsThisNode: true };
const REFUSED: OwnerAnswer = { kind: 'refused', status: 403 };
const UNKNOWN: OwnerAnswer = { kind: 'unknown', reason: 'connect ECONNREFUSED' };

const CASES: readonly [string, readonly OwnerAnswer[], 'replaced' | 'removed'][] = [
  ['a DaemonSet that is there means an upgrade, a restart or an eviction', [PRESENT], 'replaced'],
  ['a DaemonSet that is being deleted means removal', [{ ...PRESENT, deleting: true }], 'removed'],
  ['a DaemonSet that no longer wants this node means removal', [{ ...PRESENT, selectsThisNode: false }], 'removed'],
  ['no DaemonSet means removal', [{ kind: 'absent' }], 'removed'],
  ['no answer proves nothing', [UNKNOWN, UNKNOWN, UNKNOWN], 'replaced'],
  ['nobody asked proves nothing', [], 'replaced'],
  ['one refusal proves nothing', [REFUSED], 'replaced'],
  ['a refusal after silence proves nothing', [UNKNOWN, REFUSED], 'replaced'],
  ['refusals only mean that account or rights went with the installation', [REFUSED, REFUSED, REFUSED], 'removed'],
  ['the last answer counts', [UNKNOWN, { kind: 'absent' }], 'removed'],
  ['silence after a refusal proves nothing', [REFUSED, UNKNOWN], 'replaced'],
];

for (const [name, answers, expected] of CASES) {
  test(name, () => {
    const departure = judgeDeparture(answers);
    assert.equal(departure.kind, expected);
    assert.ok(departure.reason.length > 0);
  });
}
