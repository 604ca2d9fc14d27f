import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { getHeapStatistics } from 'node:v8';
import { collectGarbage } from '../../../reactor/spare-memory.ts';
import { dropFilePages } from '../../../reactor/sys/executable-pages.ts';

function residentFileBytes(): number {
  return Number(/^RssFile:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}

test('pages of the executable leave the resident set, and the process goes on', () => {
  const before = residentFileBytes();
  assert.ok(dropFilePages() > 0);
  const after = residentFileBytes();
  assert.ok(after < before - (8 << 20), `${before} bytes before, ${after} after`);
  assert.equal(JSON.stringify([...'abc'].map((letter) => letter.toUpperCase())), '["A","B","C"]');
});

for (const keepCode of [false, true]) {
  test(`all garbage is collected and the heap shrinks, ${keepCode ? 'compiled code stays' : 'to the last byte'}`, () => {
    let garbage: unknown[] = [];
    for (let i = 0; i < 200_000; i++) garbage.push({ number: i, text: `text ${i}` });
    const before = getHeapStatistics().total_physical_size;
    garbage = [];
    collectGarbage(keepCode);
    const after = getHeapStatistics().total_physical_size;
    assert.ok(after < before - (4 << 20), `${before} bytes before, ${after} after`);
  });
}
