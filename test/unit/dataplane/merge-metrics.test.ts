import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeMetrics } from '../../../agent/dataplane/merge-metrics.ts';
import type { WorkerMetrics } from '../../../agent/dataplane/messages.ts';

const FORMER: WorkerMetrics = {
  worker: 1,
  traffic: [
    { labels: ['a'], opened: 2, closed: 1, failed: 0, received: 10, sent: 20 },
    { labels: ['b'], opened: 1, closed: 1, failed: 1, received: 0, sent: 0 },
  ],
  refused: [{ reason: 'LOOP', direction: 'outbound', count: 3 }],
  gauges: [
    { name: 'turns', kind: 'counter', labels: {}, value: 100 },
    { name: 'pods', kind: 'gauge', labels: {}, value: 7 },
  ],
};

test('counters of a dead worker stay in those of its successor, gauges do not', () => {
  const current: WorkerMetrics = {
    worker: 1,
    traffic: [{ labels: ['a'], opened: 1, closed: 1, failed: 0, received: 5, sent: 6 }],
    refused: [
      { reason: 'LOOP', direction: 'outbound', count: 1 },
      { reason: 'LOOP', direction: 'inbound', count: 1 },
    ],
    gauges: [
      { name: 'turns', kind: 'counter', labels: {}, value: 4 },
      { name: 'pods', kind: 'gauge', labels: {}, value: 2 },
    ],
  };
  assert.deepEqual(mergeMetrics(FORMER, current), {
    worker: 1,
    traffic: [
      { labels: ['a'], opened: 3, closed: 2, failed: 0, received: 15, sent: 26 },
      { labels: ['b'], opened: 1, closed: 1, failed: 1, received: 0, sent: 0 },
    ],
    refused: [
      { reason: 'LOOP', direction: 'outbound', count: 4 },
      { reason: 'LOOP', direction: 'inbound', count: 1 },
    ],
    gauges: [
      { name: 'turns', kind: 'counter', labels: {}, value: 104 },
      { name: 'pods', kind: 'gauge', labels: {}, value: 2 },
    ],
  });
});
