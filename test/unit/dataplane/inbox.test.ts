import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import { Inbox } from '../../../agent/dataplane/inbox.ts';
import { EventLoop } from '../../../reactor/loop.ts';

function busyFor(durationMs: number): void {
  for (const endMs = performance.now() + durationMs; performance.now() < endMs; );
}

test('a burst of messages is handled whole and in order, in many turns of the loop', async () => {
  const loop = EventLoop.open();
  const { port1, port2 } = new MessageChannel();
  const handled: number[] = [];
  const turns = new Set<number>();
  const inbox = new Inbox<number>(loop, port2, (message) => {
    busyFor(1);
    handled.push(message);
    turns.add(loop.stats.turns);
    if (message === 199) loop.stop();
  });
  for (let number = 0; number < 200; number++) port1.postMessage(number);
  // Two wake-ups, as for messages of two senders.
  loop.setTimer(0, () => inbox.read());
  loop.setTimer(1, () => inbox.read());
  await loop.run();
  assert.deepEqual(handled, [...Array(200).keys()]);
  assert.ok(turns.size >= 30, `handled in ${turns.size} turns`);
  port1.close();
  loop.close();
});

test('a message that fails does not keep those behind it from being handled', async () => {
  const loop = EventLoop.open();
  loop.onHandlerError = () => {};
  const { port1, port2 } = new MessageChannel();
  const handled: string[] = [];
  const inbox = new Inbox<string>(loop, port2, (message) => {
    if (message === 'bad') {
      busyFor(6);
      throw new Error('bad');
    }
    handled.push(message);
    if (message === 'last') loop.stop();
  });
  for (const message of ['bad', 'good', 'bad', 'last']) port1.postMessage(message);
  loop.setTimer(0, () => inbox.read());
  loop.setTimer(500, () => loop.stop());
  await loop.run();
  assert.deepEqual(handled, ['good', 'last']);
  port1.close();
  loop.close();
});
