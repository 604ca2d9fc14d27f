import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { AmbitError } from '../../core/errors.ts';
import { EventLoop } from '../../reactor/loop.ts';
import { deferred, withLoop } from '../support/reactor.ts';

const is = (code: string) => (error: unknown) => error instanceof AmbitError && error.code === code;

test('timers fire in order, not early, and cancelled ones not at all', () =>
  withLoop(async (loop) => {
    const fired: string[] = [];
    const done = deferred<void>('timers');
    const start = performance.now();
    let elapsed = 0;
    loop.setTimer(30, () => {
      elapsed = performance.now() - start;
      fired.push('30');
      done.resolve();
    });
    loop.setTimer(10, () => fired.push('10'));
    const cancelled = loop.setTimer(20, () => fired.push('20'));
    loop.setTimer(15, () => cancelled.cancel());
    loop.setTimer(0, () => fired.push('0'));
    await done.promise;
    assert.deepEqual(fired, ['0', '10', '30']);
    assert.ok(elapsed >= 30, `fired after ${elapsed} ms`);
  }));

test('a timer that sets itself again does not starve the loop', () =>
  withLoop(async (loop) => {
    let rounds = 0;
    const again = () => {
      rounds++;
      loop.setTimer(0, again);
    };
    again();
    const done = deferred<void>('another timer');
    loop.setTimer(20, () => done.resolve());
    await done.promise;
    assert.ok(rounds > 10);
  }));

test('tasks run at the end of the same turn, tasks they add too', () =>
  withLoop(async (loop) => {
    const order: string[] = [];
    const done = deferred<void>('tasks');
    loop.setTimer(1, () => {
      loop.atTurnEnd({
        runAtTurnEnd() {
          order.push(`first in turn ${loop.stats.turns}`);
          loop.atTurnEnd({ runAtTurnEnd: () => order.push(`second in turn ${loop.stats.turns}`) });
        },
      });
      order.push(`handler in turn ${loop.stats.turns}`);
      loop.atNextTurn({
        runAtTurnEnd() {
          order.push(`next in turn ${loop.stats.turns - 1}`);
          done.resolve();
        },
      });
    });
    await done.promise;
    const [handler, ...others] = order;
    assert.match(handler ?? '', /^handler in turn \d+$/);
    const turn = handler?.replace('handler', '');
    assert.deepEqual(others, [`first${turn}`, `second${turn}`, `next${turn}`]);
  }));

test('a task that queues itself for ever does not stop events', () =>
  withLoop(async (loop) => {
    let stopped = false;
    const task = { runAtTurnEnd: () => void (stopped || loop.atTurnEnd(task)) };
    loop.atTurnEnd(task);
    const done = deferred<void>('a timer beside it');
    loop.setTimer(5, () => done.resolve());
    await done.promise;
    stopped = true;
  }));

test('another thread wakes the loop, which reads the message without yielding to Node', () =>
  withLoop(async (loop) => {
    const { port1, port2 } = new MessageChannel();
    const got = deferred<unknown>('message');
    const wakeUp = loop.openWakeUp(() => {
      for (let next = receiveMessageOnPort(port1); next !== undefined; next = receiveMessageOnPort(port1)) {
        got.resolve(next.message);
      }
    });
    const source = `
      import { workerData } from 'node:worker_threads';
      const { signalWakeUp } = await import(workerData.module);
      workerData.port.postMessage('hello');
      signalWakeUp(workerData.fd);
    `;
    const module = new URL('../../reactor/wake-up.ts', import.meta.url).href;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: { module, port: port2, fd: wakeUp.fd },
      transferList: [port2],
    });
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    assert.equal(await got.promise, 'hello');
    await exited;
    port1.close();
    wakeUp.close();
    wakeUp.close();
  }));

test('without anybody holding it open to Node, the loop still gives Node a turn now and then', async () => {
  const loop = EventLoop.open();
  const running = loop.run();
  const start = performance.now();
  // A busy loop: a timer of its own every millisecond.
  const again = () => void loop.setTimer(1, again);
  again();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const late = performance.now() - start;
  loop.stop();
  await running;
  loop.close();
  assert.ok(late < 500, `Node's timer of 5 ms came after ${late} ms`);
});

test('what a handler throws ends run(), or goes to the error handler and the loop goes on', async () => {
  const loop = EventLoop.open();
  loop.setTimer(0, () => {
    throw new Error('from a timer');
  });
  await assert.rejects(loop.run(), /from a timer/);
  const errors: unknown[] = [];
  loop.onHandlerError = (error) => errors.push(error);
  loop.setTimer(0, () => {
    throw new Error('again');
  });
  loop.atTurnEnd({
    runAtTurnEnd() {
      throw new Error('from a task');
    },
  });
  loop.setTimer(5, () => loop.stop());
  await loop.run();
  assert.deepEqual(errors.map(String).sort(), ['Error: again', 'Error: from a task']);
  loop.close();
});

test('the loop measures itself', () =>
  withLoop(async (loop) => {
    const done = deferred<void>('busy turn');
    loop.setTimer(1, () => {
      const end = performance.now() + 20;
      while (performance.now() < end);
      done.resolve();
    });
    await done.promise;
    const next = deferred<void>('the turn is counted');
    loop.setTimer(1, () => next.resolve());
    await next.promise;
    assert.ok(loop.stats.turns > 0);
    assert.ok(loop.stats.maxTurnMs >= 20);
    assert.ok(loop.stats.busyMs >= 20);
  }));

test('wrong use throws', async () => {
  const loop = EventLoop.open();
  const running = loop.run();
  assert.throws(() => void loop.run(), is('USAGE'));
  assert.throws(() => loop.close(), is('USAGE'));
  loop.stop();
  loop.stop();
  await running;
  loop.close();
  loop.close();
  assert.throws(() => void loop.run(), is('CLOSED'));
  assert.throws(() => loop.setTimer(1, () => {}), is('CLOSED'));
  assert.throws(() => loop.openWakeUp(() => {}), is('CLOSED'));
});
