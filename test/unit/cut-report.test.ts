/** What an agent tells about connections that did not end in time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutEvents, cutsByPod } from '../../agent/cut-report.ts';
import type { EnrolledPod } from '../../agent/dataplane/pod-capture.ts';
import { parseIp } from '../../core/ip.ts';

const IP = parseIp('10.0.0.1') ?? assert.fail();

function pod(name: string): EnrolledPod {
  return { uid: `uid-${name}`, namespace: 'shop', name, serviceAccount: 'default', ips: [IP] };
}

test('pods are named with their connections, those with the most first, pods that are gone not at all', () => {
  const byUid = new Map([
    ['uid-a', 1],
    ['uid-b', 2],
    ['uid-gone', 1],
  ]);
  const cuts = cutsByPod(byUid, ['a', 'b', 'c'].map(pod));
  assert.deepEqual(
    cuts.map(({ pod: { name }, connections }) => [name, connections]),
    [
      ['b', 2],
      ['a', 1],
    ],
  );
});

test('nothing is told when every connection ended by itself', () => {
  assert.deepEqual(cutEvents('node1', { ended: 0, cut: 0, graceMs: 25_000, pods: [] }), []);
});

test('idle connections that were ended in order are no warning', () => {
  const [event, ...others] = cutEvents('node1', { ended: 4, cut: 0, graceMs: 25_000, pods: [] });
  assert.deepEqual([event?.type, event?.regarding.kind, others], ['Normal', 'Node', []]);
  assert.match(event?.note ?? '', /4 connections .* within the 25 s .* 4 were idle and ended in order, 0 were cut/);
});

test('what was cut is a warning on the node and on every pod, up to a bound', () => {
  const pods = Array.from({ length: 60 }, (_, index) => ({ pod: pod(`p${index}`), connections: 3 }));
  const [node, ...told] = cutEvents('node1', { ended: 1, cut: 180, graceMs: 25_000, pods });
  assert.deepEqual([node?.type, node?.regarding.name], ['Warning', 'node1']);
  assert.equal(told.length, 50);
  assert.deepEqual(told[0]?.regarding, { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name: 'p0', uid: 'uid-p0' });
  assert.match(told[0]?.note ?? '', /^3 connections .* were cut/);
});
