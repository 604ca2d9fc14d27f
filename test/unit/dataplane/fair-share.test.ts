import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionSeats, descriptorsPerWorker } from '../../../agent/dataplane/connection-seats.ts';
import { mayConnect, parseDescriptorLimit } from '../../../agent/dataplane/fair-share.ts';

test('below three quarters of the limit everybody is served, above only pods below their fair share', () => {
  const rows: [limit: number, pods: number, connections: number, ofPod: number, served: boolean, why: string][] = [
    [1000, 2, 0, 0, true, 'nothing is in use'],
    [1000, 2, 374, 374, true, 'one pod may have far more than its share while there is room'],
    [1000, 2, 375, 375, false, 'three quarters are in use and the pod has more than its half'],
    [1000, 2, 375, 0, true, 'its neighbour still gets connections'],
    [1000, 2, 624, 249, true, 'up to its share'],
    [1000, 2, 625, 250, false, 'and not beyond'],
    [1000, 100, 375, 4, true, 'one of a hundred pods below five connections'],
    [1000, 100, 375, 5, false, 'and at five'],
    [20_000, 1, 9_899, 9_899, true, 'a pod alone may use the limit'],
    [20_000, 1, 20_000, 20_000, true, 'and leaves the end of it to the kernel'],
    [20_000, 0, 9_000, 9_000, true, 'the last connections of a pod that is being removed'],
    [Number.POSITIVE_INFINITY, 5, 1e6, 1e6, true, 'no limit, no share'],
  ];
  for (const [limit, pods, connections, ofPod, served, why] of rows) {
    assert.equal(mayConnect({ limit, pods, connections, ofPod }), served, why);
  }
});

test('the soft limit of open files is read from the text of the kernel', () => {
  const row = (soft: string) =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}  1048576  files\n`;
  assert.equal(parseDescriptorLimit(row('20000')), 20_000);
  assert.equal(parseDescriptorLimit(row('unlimited')), undefined);
  assert.equal(parseDescriptorLimit(''), undefined);
  assert.equal(descriptorsPerWorker(2) * 2, descriptorsPerWorker(1));
});

test('a seat is given back exactly once and makes room again', () => {
  const [greedy, neighbour] = [{}, {}];
  const seats = new ConnectionSeats(8, { size: 2 }, () => 0);
  const held = [seats.take(greedy), seats.take(greedy), seats.take(greedy)];
  assert.equal(seats.take(greedy), undefined);
  assert.equal(seats.taken, 3);
  const other = seats.take(neighbour);
  assert.ok(other !== undefined);
  other.release();
  other.release();
  assert.equal(seats.taken, 3);
  for (const seat of held) seat?.release();
  assert.equal(seats.taken, 0);
  assert.ok(seats.take(greedy) !== undefined);
});

test('of a flood of refusals one a second is logged, and it tells how many were not', () => {
  let now = 0;
  const seats = new ConnectionSeats(8, { size: 2 }, () => now);
  const pod = {};
  for (let count = 0; count < 3; count++) seats.take(pod);
  assert.deepEqual(
    Array.from({ length: 5 }, () => seats.refusal(pod).logged),
    [true, false, false, false, false],
  );
  assert.equal(seats.refusal({}).logged, true, 'another pod has its own line');
  now = 1000;
  const { error, logged } = seats.refusal(pod);
  assert.equal(logged, true);
  assert.equal(error.code, 'FAIR_SHARE');
  assert.match(error.message, /3 connections, its fair share is 2; 4 refused without a line/);
});
