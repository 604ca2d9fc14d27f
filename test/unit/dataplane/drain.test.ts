import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isIdle } from '../../../agent/dataplane/drain.ts';

test('an answered connection is idle sooner the nearer the deadline is', () => {
  const cases = [
    { quietMs: 999, remainingMs: 5000, idle: false },
    { quietMs: 1000, remainingMs: 5000, idle: true },
    { quietMs: 1000, remainingMs: 20_000, idle: true },
    { quietMs: 199, remainingMs: 1000, idle: false },
    { quietMs: 200, remainingMs: 1000, idle: true },
    { quietMs: 19, remainingMs: 10, idle: false },
    { quietMs: 20, remainingMs: 10, idle: true },
  ];
  for (const { quietMs, remainingMs, idle } of cases) assert.equal(isIdle(quietMs, true, remainingMs), idle);
});

test('a connection that may wait for an answer gets a second at any time', () => {
  assert.equal(isIdle(999, false, 10), false);
  assert.equal(isIdle(1000, false, 10), true);
});
