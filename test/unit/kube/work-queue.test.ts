/** The work queue: one run per key at a time, nothing lost, nothing given up, bounded by its keys. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WorkQueue } from '../../../kube/work-queue.ts';
import { eventually } from '../../support/eventually.ts';

test('a key that is added many times while it runs is run once more, and never twice at once', async () => {
  const gate = Promise.withResolvers<void>();
  let running = 0;
  let runs = 0;
  const queue = new WorkQueue({
    concurrency: 8,
    async run() {
      running++;
      runs++;
      assert.equal(running, 1);
      if (runs === 1) await gate.promise;
      running--;
    },
  });
  queue.add('a');
  await eventually('it runs', () => assert.equal(running, 1));
  for (let i = 0; i < 100; i++) queue.add('a');
  assert.equal(queue.length, 1);
  gate.resolve();
  await eventually('idle', () => assert.ok(queue.idle));
  assert.equal(runs, 2);
  await queue.close();
});

test('keys run in the order in which they were added, at most as many at once as said', async () => {
  const order: string[] = [];
  let running = 0;
  let most = 0;
  const queue = new WorkQueue({
    concurrency: 2,
    async run(key: string) {
      order.push(key);
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
    },
  });
  for (const key of ['a', 'b', 'c', 'd', 'e']) queue.add(key);
  await eventually('idle', () => assert.ok(queue.idle));
  assert.deepEqual(order, ['a', 'b', 'c', 'd', 'e']);
  assert.equal(most, 2);
  await queue.close();
});

test('failed work is tried again with growing pauses until it succeeds, and is told as failing until then', async () => {
  const attempts: number[] = [];
  const told: [string, number][] = [];
  const queue = new WorkQueue({
    random: () => 1,
    async run() {
      attempts.push(performance.now());
      if (attempts.length < 5) throw new Error(`attempt ${attempts.length}`);
    },
    onFailing: (key, error, count) => told.push([`${key}: ${error.message}`, count]),
  });
  queue.add('a');
  await eventually('it failed', () => {
    const [failing] = queue.failing();
    assert.equal(failing?.key, 'a');
    assert.match(failing?.reason ?? '', /^attempt /);
  });
  await eventually('it succeeded', () => assert.deepEqual(queue.failing(), []));
  assert.deepEqual(
    told.map(([, count]) => count),
    [1, 2, 3, 4],
  );
  const pauses = attempts.slice(1).map((at, index) => at - (attempts[index] ?? 0));
  for (const [index, atLeast] of [5, 10, 20, 40].entries()) assert.ok((pauses[index] ?? 0) >= atLeast - 1, `${pauses}`);
  await queue.close();
});

test('failing work does not delay other keys, and adding a failing key again tries it at once', async () => {
  const runs = new Map<string, number>();
  const queue = new WorkQueue({
    firstBackoffMs: 60_000,
    maxBackoffMs: 60_000,
    async run(key: string) {
      runs.set(key, (runs.get(key) ?? 0) + 1);
      if (key === 'bad') throw new Error('no');
    },
  });
  queue.add('bad');
  queue.add('good');
  await eventually('both ran', () =>
    assert.deepEqual(
      [...runs],
      [
        ['bad', 1],
        ['good', 1],
      ],
    ),
  );
  queue.add('bad');
  await eventually('it ran again', () => assert.equal(runs.get('bad'), 2));
  assert.equal(queue.length, 1, 'it waits for the next attempt');
  await queue.close();
});

test('a wish for later is met, an earlier one counts', async () => {
  let runs = 0;
  const queue = new WorkQueue({
    async run() {
      runs++;
    },
  });
  queue.addAfter('a', 60_000);
  queue.addAfter('a', 10);
  queue.addAfter('a', 60_000);
  assert.equal(queue.length, 1);
  await eventually('it ran', () => assert.equal(runs, 1));
  assert.equal(queue.length, 0);
  await queue.close();
});

test('closing waits for what runs, tells it, and starts nothing any more', async () => {
  let told = false;
  let runs = 0;
  const queue = new WorkQueue({
    async run(_key, signal) {
      runs++;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      told = true;
    },
  });
  queue.add('a');
  queue.add('b');
  await eventually('it runs', () => assert.equal(runs, 1));
  await queue.close();
  queue.add('c');
  assert.ok(told);
  assert.equal(runs, 1);
  assert.equal(queue.length, 0);
});
