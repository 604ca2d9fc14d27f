/** The live view's arithmetic: one connection counts once, denials show, rates and medians are of the right pair. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AccessLogEntry, formatAccessLine } from '../../../agent/dataplane/access-log.ts';
import { AmbitError } from '../../../core/errors.ts';
import { getIp } from '../../../core/ip.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';
import { type AccessRecord, hostOf, parseAccessLine } from '../../../sandbox/access-record.ts';
import { parseCallReports } from '../../../sandbox/call-reports.ts';
import { FlowTable } from '../../../sandbox/flow-table.ts';
import { renderView } from '../../../sandbox/view.ts';

const PODS = new Map([
  ['10.91.1.2', { key: 'shop/frontend', node: 'a', ip: '10.91.1.2' }],
  ['10.91.1.4', { key: 'legacy/cron', node: 'a', ip: '10.91.1.4' }],
  ['10.91.2.2', { key: 'shop/catalog-v1', node: 'b', ip: '10.91.2.2' }],
]);

function entry(more: Partial<AccessLogEntry> = {}): AccessLogEntry {
  const end = (ip: string, port: number, account: string) => ({
    address: { ip: getIp(ip), port },
    workload: account,
    namespace: 'shop',
    identity: formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: account }),
    cluster: undefined,
  });
  return {
    source: end('10.91.1.2', 40000, 'frontend'),
    destination: end('10.91.2.2', 15008, 'catalog'),
    hboneAddress: '10.91.2.2:8080',
    service: 'catalog.shop.svc.cluster.local',
    direction: 'outbound',
    path: 'hbone',
    bytesSent: 10,
    bytesReceived: 20,
    durationMs: 3,
    error: undefined,
    policy: undefined,
    ...more,
  };
}

function record(more: Partial<AccessLogEntry> = {}): AccessRecord {
  const parsed = parseAccessLine(formatAccessLine('json', entry(more), new Date(0)));
  assert.ok(parsed !== undefined);
  return parsed;
}

test('the line an agent writes is understood field by field', () => {
  const parsed = record();
  assert.deepEqual(
    [parsed.direction, parsed.path, parsed.sourceWorkload, parsed.bytesSent, parsed.bytesReceived, parsed.durationMs],
    ['outbound', 'hbone', 'frontend', 10, 20, 3],
  );
  assert.equal(parsed.sourceIdentity, 'spiffe://cluster.local/ns/shop/sa/frontend');
  assert.equal(parsed.hboneAddress, '10.91.2.2:8080');
  for (const other of ['', 'text', '{', '{"scope":"xds"}', '[1]', 'null'])
    assert.equal(parseAccessLine(other), undefined);
  assert.equal(hostOf('[fd00::1]:80'), 'fd00::1');
});

test('a tunnelled connection counts once although both agents report it', () => {
  const table = new FlowTable((ip) => PODS.get(ip));
  for (let call = 0; call < 8; call++) {
    table.add(record(), 1000);
    table.add(record({ direction: 'inbound' }), 1000);
  }
  const [flow, ...others] = table.rows(1000);
  assert.equal(others.length, 0);
  assert.deepEqual(
    [flow?.from, flow?.to, flow?.path, flow?.identity, flow?.perSecond],
    ['shop/frontend', 'shop/catalog-v1', 'hbone', 'frontend -> catalog', 2],
  );
});

test('a refusal by the destination shows as DENIED with the policy, and the client side of it adds nothing', () => {
  const table = new FlowTable((ip) => PODS.get(ip));
  table.add(record(), 1000);
  table.add(
    record({ direction: 'inbound', error: new AmbitError('POLICY_DENIED', 'denied'), policy: 'shop/deny' }),
    1100,
  );
  table.add(record({ error: new AmbitError('TUNNEL_STATUS', 'status 401') }), 1100);
  const [flow] = table.rows(1100);
  assert.deepEqual([flow?.path, flow?.detail, flow?.p50Ms], ['DENIED', 'shop/deny', undefined]);
});

test('plaintext from outside the mesh is known from the destination', () => {
  const table = new FlowTable((ip) => PODS.get(ip));
  const source = {
    address: { ip: getIp('10.91.1.4'), port: 1 },
    workload: 'cron',
    namespace: 'legacy',
    identity: undefined,
    cluster: undefined,
  };
  table.add(record({ source, direction: 'inbound', path: 'plaintext', hboneAddress: undefined }), 0);
  const [flow] = table.rows(0);
  assert.deepEqual([flow?.from, flow?.path, flow?.identity], ['legacy/cron', 'plaintext', 'none']);
});

test('the median is of the pair, and silent pairs leave the table', () => {
  const table = new FlowTable((ip) => PODS.get(ip));
  table.add(record(), 1000);
  table.addCalls(
    'shop/frontend',
    parseCallReports('{"calls":[{"url":"http://catalog","pod":"catalog-v1","count":3,"p50Ms":1.25}]}'),
  );
  assert.equal(table.rows(1000)[0]?.p50Ms, 1.25);
  assert.equal(table.rows(6000)[0]?.perSecond, 0);
  assert.equal(table.rows(60_000).length, 0);
  for (const odd of ['x', '{"calls":3}', '{"calls":[1,{}]}', '{"calls"']) assert.deepEqual(parseCallReports(odd), []);
});

test('the view lines up, colours only when asked, and cuts to the width', () => {
  const table = new FlowTable((ip) => PODS.get(ip));
  table.add(record(), 0);
  const flows = table.rows(0);
  const plain = renderView({ flows, notes: ['a note'], color: false, width: 120 });
  assert.ok(plain.every((line) => !line.includes('\u001b')));
  assert.equal(plain[0]?.indexOf('PATH'), plain[1]?.indexOf('hbone'));
  assert.equal(plain.at(-1), '  ! a note');
  const [flow] = flows;
  assert.ok(flow !== undefined);
  const denied = { ...flow, path: 'DENIED', detail: 'shop/deny' } as const;
  const colored = renderView({ flows: [denied], notes: [], color: true, width: 40 });
  const [red, reset] = ['\u001b[31;1m', '\u001b[0m'];
  assert.ok(colored[1]?.startsWith(red) && colored[1].endsWith(reset));
  assert.ok((colored[1]?.length ?? 0) <= 40 + red.length + reset.length);
});
