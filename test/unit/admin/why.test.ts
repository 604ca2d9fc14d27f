import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type WhyReport, why } from '../../../agent/admin/why.ts';
import { AmbitError } from '../../../core/errors.ts';
import { testMesh, testRouteSettings } from '../../support/admin-source.ts';

const state = testMesh();

function ask(from: string, to: string, settings = testRouteSettings()): WhyReport {
  const report = why(state, settings, from, to);
  if (report instanceof AmbitError) throw report;
  return report;
}

test('a client whose identity an ALLOW policy names reaches the service over a tunnel', () => {
  const report = ask('shop/frontend', 'stock:80');
  assert.equal(report.verdict, 'allowed');
  assert.equal(report.reason, 'allowed by shop/stock-readers');
  assert.equal(report.transport.path, 'hbone');
  assert.equal(report.to.address, '10.9.0.1:80');
  assert.deepEqual(report.inbound, { node: 'b', port: 15008 });
  assert.equal(report.route.dial, '10.2.0.1:15008');
  assert.equal(report.route.authority, '10.2.0.1:8080');
  assert.deepEqual(report.route.expectedIdentities, ['spiffe://cluster.local/ns/shop/sa/stock']);
  assert.deepEqual(report.route.service?.endpoints, [{ name: 'stock-1', node: 'b', healthy: true }]);
  assert.equal(report.policy?.sourceIdentity, 'spiffe://cluster.local/ns/shop/sa/frontend');
  assert.deepEqual(report.advice, []);
});

test('a client no ALLOW policy names is denied, and the advice names policy and identity', () => {
  const report = ask('shop/cart', 'stock:80');
  assert.equal(report.verdict, 'denied');
  assert.deepEqual(report.advice, ['add cluster.local/ns/shop/sa/cart to the ALLOW policy shop/stock-readers']);
});

test('a client outside the mesh arrives in plaintext without an identity', () => {
  const report = ask('legacy/cron', 'shop/stock:80');
  assert.equal(report.from.inMesh, false);
  assert.equal(report.route.kind, 'direct');
  assert.equal(report.transport.path, 'plaintext');
  assert.deepEqual(report.inbound, { node: 'b', port: 15006 });
  assert.equal(report.policy?.sourceIdentity, null);
  assert.equal(report.verdict, 'denied');
  assert.match(report.advice[0] ?? '', /kubectl label namespace legacy istio.io\/dataplane-mode=ambient/);
});

test('a DENY policy is named as decisive, and the advice is to change it', () => {
  const report = ask('shop/frontend', 'shop/stock-1:9999');
  assert.equal(report.verdict, 'denied');
  assert.deepEqual(
    report.policy?.findings.map(({ policy, matched, decisive }) => [policy, matched, decisive]),
    [
      ['shop/no-debug', true, true],
      ['shop/stock-readers', true, false],
    ],
  );
  assert.match(report.advice.join(), /change the DENY policy shop\/no-debug/);
});

test('two pods of one node take the same-node path unless encryption is forced', () => {
  assert.equal(ask('shop/frontend', 'shop/cart:80').transport.path, 'same-node');
  assert.equal(
    ask('shop/frontend', 'shop/cart:80', testRouteSettings({ forceEncryption: true })).transport.path,
    'hbone',
  );
});

test('an unenrolled destination and one outside the registry are reached without a verdict of the mesh', () => {
  const cron = ask('shop/frontend', 'legacy/cron:80');
  assert.equal(cron.transport.path, 'plaintext');
  assert.equal(cron.policy, undefined);
  assert.equal(cron.verdict, 'allowed');
  const outside = ask('shop/frontend', '192.0.2.1:443');
  assert.equal(outside.transport.because, 'the destination is not in the registry');
});

test('refusals where the connection starts carry the code and a remedy', () => {
  const strict = testRouteSettings({ outboundPolicy: 'REGISTRY_ONLY' });
  const outside = ask('shop/frontend', '192.0.2.1:443', strict);
  assert.equal(outside.verdict, 'refused');
  assert.equal(outside.route.error?.code, 'REGISTRY_ONLY');
  const port = ask('shop/frontend', 'stock:81');
  assert.deepEqual(port.advice, ['shop/stock.shop.svc.cluster.local serves port 80']);
  assert.equal(ask('shop/frontend', 'empty:80').route.error?.code, 'NO_HEALTHY_ENDPOINT');
});

test('a policy that has not arrived denies and is named', () => {
  const report = ask('shop/frontend', 'shop/late:80');
  assert.equal(report.verdict, 'denied');
  assert.deepEqual(report.policy?.unknownPolicies, ['shop/missing']);
  assert.match(report.advice.join(), /shop\/missing/);
});

test('every way to name a service means the same address', () => {
  for (const name of [
    'stock',
    'stock.shop',
    'stock.shop.svc',
    'stock.shop.svc.cluster.local',
    'shop/stock',
    '10.9.0.1',
  ]) {
    assert.equal(ask('shop/frontend', `${name}:80`).to.address, '10.9.0.1:80', name);
  }
  assert.equal(ask('10.1.0.1', 'stock:80').from.name, 'frontend-1');
});

test('unknown names and malformed questions are errors that say what is known', () => {
  const cases: [from: string, to: string, code: string, text: RegExp][] = [
    ['shop/nobody', 'stock:80', 'UNKNOWN_WORKLOAD', /in namespace shop there are cart, frontend/],
    ['nowhere/x', 'stock:80', 'UNKNOWN_WORKLOAD', /"nowhere\/x"/],
    ['shop/frontend', 'nothing:80', 'UNKNOWN_SERVICE', /"nothing"/],
    ['shop/frontend', 'shop/cart', 'BAD_AUTHORITY', /<host>:<port>/],
    ['shop/frontend', 'stock:99999', 'BAD_AUTHORITY', /<host>:<port>/],
  ];
  for (const [from, to, code, text] of cases) {
    const error = why(state, testRouteSettings(), from, to);
    assert.ok(error instanceof AmbitError, `${from} ${to}`);
    assert.equal(error.code, code);
    assert.match(error.message, text);
  }
});

test('the port of a service that has one only may be left out', () => {
  assert.equal(ask('shop/frontend', 'stock').to.address, '10.9.0.1:80');
  assert.equal(ask('shop/frontend', 'shop/stock').to.address, '10.9.0.1:80');
  assert.throws(() => ask('shop/frontend', 'shop/cart'), /is not <host>:<port>/);
});
