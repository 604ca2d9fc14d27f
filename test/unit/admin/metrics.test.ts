import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { expose, FAMILIES } from '../../../agent/admin/metrics.ts';
import { snapshotSamples } from '../../../agent/admin/samples.ts';
import type { TrafficSeriesView } from '../../../agent/dataplane/messages.ts';
import { TRAFFIC_LABELS } from '../../../agent/dataplane/traffic-labels.ts';
import { AGENT_VERSION } from '../../../core/version.ts';
import { testSnapshot } from '../../support/admin-source.ts';
import { ROOT } from '../../support/source-files.ts';

const LOCALITY_LABELS = 4;

function series(fields: Partial<TrafficSeriesView>): TrafficSeriesView {
  const labels = TRAFFIC_LABELS.map((name, index) =>
    index >= TRAFFIC_LABELS.length - LOCALITY_LABELS ? '' : `v-${name}`,
  );
  return { labels, opened: 0, closed: 0, failed: 0, received: 0, sent: 0, ...fields };
}

function worker(number: number, fields: object) {
  return { worker: number, traffic: [], refused: [], gauges: [], ...fields };
}

test("traffic counters have Istio's names and exact labels in Istio's order, and add up over workers", async () => {
  const workers = [
    worker(0, { traffic: [series({ opened: 2, closed: 1, received: 100, sent: 7 })] }),
    worker(1, { traffic: [series({ opened: 3, received: 11 })] }),
  ];
  const text = await expose(snapshotSamples(testSnapshot({ workers })));
  const labels = TRAFFIC_LABELS.slice(0, -LOCALITY_LABELS).map((name) => `${name}="v-${name}"`);
  const line = (name: string, value: number): string => `${name}{${labels.join(',')}} ${value}`;
  for (const expected of [
    line('istio_tcp_connections_opened_total', 5),
    line('istio_tcp_connections_closed_total', 1),
    line('istio_tcp_received_bytes_total', 111),
    line('istio_tcp_sent_bytes_total', 7),
  ])
    assert.ok(text.includes(`${expected}\n`), `${expected}\n--- in ---\n${text}`);
  assert.ok(!text.includes('istio_tcp_connections_failed'), 'a family without a value is left out');
});

test('locality labels appear when a side is known', async () => {
  const labels = series({}).labels.with(-1, 'zone-2');
  const workers = [worker(0, { traffic: [{ ...series({ opened: 1 }), labels }] })];
  assert.match(await expose(snapshotSamples(testSnapshot({ workers }))), /destination_zone="zone-2"\} 1\n/);
});

test('the text is OpenMetrics: types without _total, samples with it, an end mark', async () => {
  const workers = [worker(0, { refused: [{ reason: 'LOOP', direction: 'inbound', count: 3 }] })];
  const text = await expose(snapshotSamples(testSnapshot({ workers })));
  assert.match(text, /^# TYPE ambit_connections_refused counter$/m);
  assert.match(text, /^ambit_connections_refused_total\{reason="LOOP",direction="inbound"\} 3$/m);
  assert.match(text, new RegExp(`^istio_build\\{component="ztunnel",tag="ambit-${AGENT_VERSION}"\\} 1$`, 'm'));
  assert.match(text, /^workload_manager_active_proxy_count 2$/m);
  assert.ok(text.endsWith('# EOF\n'));
});

test('numbers of a worker carry its index where the family says so, and are summed where not', async () => {
  const gauges = [
    { name: 'ambit_worker_pods', kind: 'gauge', labels: {}, value: 4 },
    { name: 'istio_tcp_sockets_open', kind: 'gauge', labels: { reporter: 'source' }, value: 5 },
  ];
  const text = await expose(snapshotSamples(testSnapshot({ workers: [worker(0, { gauges }), worker(1, { gauges })] })));
  assert.match(text, /^ambit_worker_pods\{worker="1"\} 4$/m);
  assert.match(text, /^istio_tcp_sockets_open\{reporter="source"\} 10$/m);
});

test('label values from anywhere stay inside their quotes', async () => {
  const labels = series({}).labels.with(1, 'a"} 1\nevil 2\\');
  const workers = [worker(0, { traffic: [{ ...series({ opened: 1 }), labels }] })];
  const text = await expose(snapshotSamples(testSnapshot({ workers })));
  assert.match(text, /source_workload="a\\"\} 1\\nevil 2\\\\"/);
  assert.doesNotMatch(text, /^evil/m);
});

test('a number of a family that is not declared is a defect', async () => {
  await assert.rejects(expose([{ family: 'nobody_declared_me', labels: {}, value: 1 }]), /not declared/);
});

test('every number the workers report is of a declared family and kind', () => {
  const source = readFileSync(join(ROOT, 'agent/dataplane/worker-gauges.ts'), 'utf8');
  const reported = [...source.matchAll(/\b(gauge|counter)\('([a-z_]+)'/g)].map(([, kind, name]) => `${kind} ${name}`);
  const declared = FAMILIES.map(({ type, name }) => `${type} ${name}`);
  assert.ok(reported.length > 10);
  assert.deepEqual(
    reported.filter((row) => !declared.includes(row)),
    [],
  );
});

test('help texts of families outside the stable set say so, names are unique', () => {
  const stable =
    /^(istio_tcp_(connections_opened|connections_closed|received_bytes|sent_bytes)|istio_build|process_.*)$/;
  for (const { name, help } of FAMILIES) assert.equal(!stable.test(name), help.endsWith('(unstable)'), name);
  assert.equal(new Set(FAMILIES.map(({ name }) => name)).size, FAMILIES.length);
});

test('the version is the one of the package', () => {
  const version: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version;
  assert.equal(AGENT_VERSION, version);
});
