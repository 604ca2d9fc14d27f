/** When the control plane replaces certificates of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RenewalTime } from '../../../control/renewal-time.ts';

test('a certificate is replaced at half of its life, and when the clock was set back behind its making', () => {
  let now = 10_000;
  const renewal = new RenewalTime(() => now);
  assert.equal(renewal.isDue, true, 'there is none');
  renewal.issued(20_000);
  const dueAt = (ms: number): boolean => {
    now = ms;
    return renewal.isDue;
  };
  assert.deepEqual([10_000, 14_999, 15_000, 90_000, 9_999].map(dueAt), [false, false, true, true, true]);
  renewal.issued(19_999);
  assert.equal(renewal.isDue, false);
});
