/** The check's own tools: reading metrics, comparing the host before and after, rows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMetrics, sumSamples } from '../../../sandbox/check/metrics-text.ts';
import { renderCheckRow } from '../../../sandbox/check/report.ts';
import { compareHostStates } from '../../../sandbox/leftovers.ts';

test('counters are summed over the series that carry every label', () => {
  const samples = parseMetrics(
    [
      '# TYPE x counter',
      'x_total{reporter="source",workload="a",name="with \\"quotes\\", and } brace"} 3',
      'x_total{reporter="source",workload="b"} 4 1700000000',
      'x_total{reporter="destination",workload="a"} 50',
      'plain 7',
      'not a line at all{',
      '# EOF',
    ].join('\n'),
  );
  assert.equal(sumSamples(samples, 'x_total', { reporter: 'source' }), 7);
  assert.equal(sumSamples(samples, 'x_total', { reporter: 'source', workload: 'a' }), 3);
  assert.equal(sumSamples(samples, 'plain', {}), 7);
  assert.equal(sumSamples(samples, 'absent', {}), 0);
});

test('a change of the host is named with its first line', () => {
  const before = { parts: new Map([['rules', 'a\nb\n']]) };
  assert.deepEqual(compareHostStates(before, before), []);
  const [change] = compareHostStates(before, { parts: new Map([['rules', 'a\nb\nc\n']]) });
  assert.match(change ?? '', /^rules changed [\s\S]*after: {2}c$/);
});

test('a row says whether it held, as text and as JSON', () => {
  const row = { id: 'x.y', ok: false, detail: 'because' };
  assert.match(renderCheckRow(row, { json: false, color: false }), /FAIL {2}x\.y +because/);
  assert.deepEqual(JSON.parse(renderCheckRow(row, { json: true, color: false })), row);
});
