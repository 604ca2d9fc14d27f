import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Timer, TimerHeap } from '../../../reactor/timer-heap.ts';

test('timers come out in order of their deadlines, cancelled ones never', () => {
  const commands = fc.array(fc.tuple(fc.integer({ min: 0, max: 1000 }), fc.boolean()), { maxLength: 300 });
  fc.assert(
    fc.property(commands, (rows) => {
      const heap = new TimerHeap();
      const fired: number[] = [];
      const timers: Timer[] = rows.map(([deadline]) => heap.add(deadline, () => fired.push(deadline)));
      const expected: number[] = [];
      rows.forEach(([deadline, cancelled], index) => {
        if (cancelled) {
          timers[index]?.cancel();
          timers[index]?.cancel();
        } else expected.push(deadline);
      });
      assert.equal(heap.size, expected.length);
      expected.sort((a, b) => a - b);
      assert.equal(heap.nextDeadlineMs, expected[0] ?? Number.POSITIVE_INFINITY);
      for (let handler = heap.takeDue(1000); handler !== undefined; handler = heap.takeDue(1000)) handler();
      assert.deepEqual(fired, expected);
      for (const timer of timers) timer.cancel();
      assert.equal(heap.size, 0);
    }),
  );
});

test('nothing is taken before its deadline', () => {
  const heap = new TimerHeap();
  heap.add(10, () => {});
  assert.equal(heap.takeDue(9.99), undefined);
  assert.notEqual(heap.takeDue(10), undefined);
  assert.equal(heap.takeDue(1e9), undefined);
});

test('a timer that was cancelled by clearing can still be cancelled', () => {
  const heap = new TimerHeap();
  const timer = heap.add(1, () => {});
  heap.clear();
  timer.cancel();
  assert.equal(heap.size, 0);
});
