import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WaitQueue } from '../../../agent/dataplane/wait-queue.ts';
import { EventLoop } from '../../../reactor/loop.ts';

class Recorded {
  events: string[] = [];
  onAwaited(): void {
    this.events.push('awaited');
  }
  onGivenUp(): void {
    this.events.push('given up');
  }
}

test('who waits is woken once by its own key', () => {
  const loop = EventLoop.open();
  const queue = new WaitQueue(loop, 10_000, 10);
  const first = new Recorded();
  const second = new Recorded();
  queue.add('a', first);
  queue.add('b', second);
  queue.wake('a');
  queue.wake('a');
  assert.deepEqual([first.events, second.events, queue.size], [['awaited'], [], 1]);
  loop.close();
});

test('a full queue, a deadline in the past and a cancelled wait', () => {
  const loop = EventLoop.open();
  const queue = new WaitQueue(loop, 10_000, 1);
  const cancelled = new Recorded();
  const overflow = new Recorded();
  const late = new Recorded();
  queue.add('a', cancelled)?.cancel();
  queue.add('a', late, loop.nowMs - 1);
  assert.deepEqual(late.events, ['given up']);
  queue.add('a', new Recorded());
  assert.equal(queue.add('a', overflow), undefined);
  assert.deepEqual(overflow.events, ['given up']);
  queue.wakeAll();
  assert.deepEqual([cancelled.events, queue.size], [[], 0]);
  loop.close();
});

test('the time limit ends a wait', async () => {
  const loop = EventLoop.open();
  const queue = new WaitQueue(loop, 20, 10);
  const waiting = new Recorded();
  queue.add('a', {
    onAwaited: () => waiting.onAwaited(),
    onGivenUp: () => {
      waiting.onGivenUp();
      loop.stop();
    },
  });
  await loop.run();
  assert.deepEqual(waiting.events, ['given up']);
  loop.close();
});

test('those who wait for one thing leave room for others', () => {
  const loop = EventLoop.open();
  const queue = new WaitQueue(loop, 10_000, 8);
  const waiting = Array.from({ length: 3 }, () => new Recorded());
  for (const one of waiting) queue.add('a', one);
  assert.deepEqual(
    waiting.map(({ events }) => events),
    [[], [], ['given up']],
  );
  assert.notEqual(queue.add('b', new Recorded()), undefined);
  queue.wakeAll();
  loop.close();
});
