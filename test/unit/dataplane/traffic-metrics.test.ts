import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TRAFFIC_LABELS, type TrafficEnd } from '../../../agent/dataplane/traffic-labels.ts';
import { MAX_TRAFFIC_SERIES, TrafficMetrics } from '../../../agent/dataplane/traffic-metrics.ts';
import { testWorkload } from '../../support/workload.ts';

const NOBODY: TrafficEnd = { workload: undefined, identity: undefined };

function end(name: string): TrafficEnd {
  const workload = testWorkload({ name, workloadName: name });
  return { workload, identity: workload.identity };
}

function labelsOf(values: readonly string[]): Record<string, string> {
  return Object.fromEntries(TRAFFIC_LABELS.map((name, index) => [name, values[index] ?? '']));
}

test('the labels of a connection are those of its workloads, with unknown for what is missing', () => {
  const metrics = new TrafficMetrics();
  metrics.resolve('source', end('client'), NOBODY, undefined, 'mutual_tls');
  const [series] = metrics.view();
  assert.ok(series);
  const labels = labelsOf(series.labels);
  assert.equal(series.labels.length, TRAFFIC_LABELS.length);
  assert.equal(labels.reporter, 'source');
  assert.equal(labels.source_workload, 'client');
  assert.equal(labels.source_app, 'client');
  assert.equal(labels.source_principal, 'spiffe://cluster.local/ns/default/sa/client');
  assert.equal(labels.destination_workload, 'unknown');
  assert.equal(labels.destination_service, 'unknown');
  assert.equal(labels.request_protocol, 'tcp');
  assert.equal(labels.response_flags, '-');
  assert.equal(labels.connection_security_policy, 'mutual_tls');
  assert.equal(labels.source_region, '');
});

test('a failed end is counted under its flag, while bytes and openings stay with the first tuple', () => {
  const metrics = new TrafficMetrics();
  const series = metrics.resolve('source', end('client'), end('server'), undefined, 'mutual_tls');
  series.opened++;
  series.received += 11;
  metrics.close(series, 'DENY');
  const [first, denied] = metrics.view();
  assert.deepEqual([first?.opened, first?.closed, first?.failed, first?.received], [1, 0, 0, 11]);
  assert.deepEqual([denied?.opened, denied?.closed, denied?.failed], [0, 1, 1]);
  assert.equal(labelsOf(denied?.labels ?? []).response_flags, 'DENY');
});

test('equal ends share one tuple, an updated workload gets its own', () => {
  const metrics = new TrafficMetrics();
  const client = end('client');
  const server = end('server');
  const first = metrics.resolve('source', client, server, undefined, 'mutual_tls');
  assert.equal(metrics.resolve('source', client, server, undefined, 'mutual_tls'), first);
  const updated = {
    ...server,
    workload: testWorkload({ name: 'server', workloadName: 'server', canonicalRevision: 'v2' }),
  };
  assert.notEqual(metrics.resolve('source', client, updated, undefined, 'mutual_tls'), first);
});

test('beyond the bound connections are counted under a tuple that names only the reporter', () => {
  const metrics = new TrafficMetrics();
  for (let i = 0; i <= MAX_TRAFFIC_SERIES + 10; i++) {
    metrics.resolve('destination', end(`client-${i}`), NOBODY, undefined, 'unknown').opened++;
  }
  const view = metrics.view();
  assert.equal(view.length, MAX_TRAFFIC_SERIES + 1);
  assert.equal(
    view.reduce((sum, series) => sum + series.opened, 0),
    MAX_TRAFFIC_SERIES + 11,
  );
});
