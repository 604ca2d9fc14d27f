import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DRY_RUN_LINES, DryRunReport } from '../../../agent/dataplane/dry-run-report.ts';
import type { ConnectionFacts } from '../../../agent/route/authorize.ts';
import { getIp } from '../../../core/ip.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';
import { at, getWorkload, meshOf, policy, workload } from '../../support/mesh-resources.ts';

const ASKED: ConnectionFacts = {
  source: formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'a', serviceAccount: 'app' }),
  sourceIp: getIp('10.0.0.1'),
  destinationIp: getIp('10.0.0.2'),
  destinationPort: 8080,
};
const FACTS = {
  client: at('10.0.0.1:40000'),
  source: { workload: undefined, identity: undefined },
  path: 'hbone',
} as const;
const EVERYONE = [{}];

function reportOn(policies: ReturnType<typeof policy>[], logged = true) {
  const clock = { nowMs: 0 };
  const lines: string[] = [];
  const state = meshOf(workload('server', { ips: ['10.0.0.2'] }), ...policies);
  const log = { write: (line: string) => void lines.push(line) };
  const report = new DryRunReport(state, logged ? log : undefined, 'json', () => clock.nowMs);
  const connect = (times = 1): void => {
    for (let count = 0; count < times; count++) report.report(getWorkload(state, 'server'), ASKED, FACTS);
  };
  const count = (action: string, outcome: string) =>
    report.counts().find((entry) => entry.labels.action === action && entry.labels.outcome === outcome)?.value;
  return { clock, lines, connect, count };
}

describe('the report of dry runs', () => {
  test('is one line per match with the policy and both ends', () => {
    const { lines, connect } = reportOn([policy('no', { action: 1, dryRun: true, groups: EVERYONE })]);
    connect();
    const { time, ...line } = JSON.parse(lines.join(''));
    assert.match(time, /^\d{4}-/);
    assert.deepEqual(line, {
      level: 'info',
      scope: 'rbac',
      message: 'dry-run: deny policy match',
      policy: 'default/no',
      path: 'hbone',
      'src.addr': '10.0.0.1:40000',
      'src.identity': 'spiffe://cluster.local/ns/a/sa/app',
      'dst.addr': '10.0.0.2:8080',
      'dst.workload': 'server',
      'dst.namespace': 'default',
    });
  });

  test('writes no more lines a second than its bound, counts every match, and says how many it left out', () => {
    const { clock, lines, connect, count } = reportOn([policy('no', { action: 1, dryRun: true, groups: EVERYONE })]);
    const { burst, perSecond } = DRY_RUN_LINES;
    connect(burst + 7);
    assert.equal(lines.length, burst);
    assert.equal(count('deny', 'match'), burst + 7);
    clock.nowMs += 1000;
    connect(perSecond + 1);
    assert.equal(lines.length, burst + perSecond);
    assert.equal(JSON.parse(lines[burst] ?? '').left_out, 7);
    assert.equal(JSON.parse(lines[burst + 1] ?? '').left_out, undefined);
  });

  test('names the first of many ALLOW policies that all do not match', () => {
    const names = Array.from({ length: 20 }, (_, index) => `p${String(index).padStart(2, '0')}`);
    const { lines, connect, count } = reportOn(
      names.map((name) => policy(name, { action: 0, dryRun: true, groups: [] })),
    );
    connect();
    const { message, policy: named } = JSON.parse(lines.join(''));
    assert.equal(message, 'dry-run: no allow policies match');
    assert.match(named, /^default\/p00, default\/p01, .*default\/p07 and 12 more$/);
    assert.deepEqual([count('allow', 'no_match'), count('allow', 'match')], [1, 0]);
  });

  test('counts also where no log is written', () => {
    const { lines, connect, count } = reportOn([policy('yes', { action: 0, dryRun: true, groups: EVERYONE })], false);
    connect(3);
    assert.deepEqual([lines, count('allow', 'match')], [[], 3]);
  });
});
