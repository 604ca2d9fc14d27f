/** Parts of the control plane: started in order, stopped in the opposite one, all or none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Part, startParts, stopParts } from '../../../control/part.ts';

function recorder(): { log: string[]; part(name: string, fails?: boolean): Part } {
  const log: string[] = [];
  return {
    log,
    part: (name, fails = false) => ({
      name,
      async start() {
        log.push(`+${name}`);
        if (fails) throw new Error(`${name} cannot start`);
      },
      async stop() {
        log.push(`-${name}`);
      },
      pending: () => [],
    }),
  };
}

test('parts stop in the opposite order of their start', async () => {
  const { log, part } = recorder();
  const parts = [part('a'), part('b')];
  await startParts(parts);
  await stopParts(parts);
  assert.deepEqual(log, ['+a', '+b', '-b', '-a']);
});

test('one that cannot start takes down those that stand, and its failure is told', async () => {
  const { log, part } = recorder();
  await assert.rejects(startParts([part('a'), part('b', true), part('c')]), /b cannot start/);
  assert.deepEqual(log, ['+a', '+b', '-c', '-b', '-a']);
});
