/** The renderings of `why` and `connections` from what an agent answers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderConnections } from '../../../cli/connections.ts';
import { findPodByName } from '../../../cli/running-sandbox.ts';
import { renderWhy } from '../../../cli/why-text.ts';

const DENIED = {
  from: { namespace: 'legacy', name: 'cron', address: '10.91.1.7', node: 'a', inMesh: false },
  to: { asked: 'shop/stock:8080', address: '10.92.0.14:8080' },
  route: {
    kind: 'direct',
    service: { namespace: 'shop', name: 'stock', endpoints: [{ healthy: true }, { healthy: false }] },
    destination: { name: 'stock', address: '10.91.2.9', node: 'b' },
  },
  transport: { path: 'plaintext', because: 'the client is not captured' },
  inbound: { node: 'b', port: 15006 },
  policy: {
    findings: [
      { policy: 'shop/deny-legacy', action: 'DENY', matched: true, decisive: true },
      { policy: 'shop/stock-readers', action: 'ALLOW', matched: false, decisive: false },
    ],
    unknownPolicies: [],
  },
  verdict: 'denied',
  reason: 'denied by shop/deny-legacy',
  advice: ['label the namespace'],
};

test('why tells every step, the deciding policy and where it is written', () => {
  const lines = renderWhy(DENIED, 'sandbox/mesh/policies/deny-legacy.yaml:4').split('\n');
  assert.match(lines[0] ?? '', /^legacy\/cron \(10\.91\.1\.7, node a, not in mesh\) {2}-> {2}shop\/stock:8080/);
  assert.match(lines[1] ?? '', /1 route +service shop\/stock, 1 of 2 endpoints healthy/);
  assert.match(lines[2] ?? '', /2 transport +plaintext/);
  assert.match(lines[3] ?? '', /3 inbound +node b, port 15006/);
  assert.match(lines[4] ?? '', /4 policy +DENY +shop\/deny-legacy: DECIDES/);
  assert.match(lines[5] ?? '', /^ +ALLOW +shop\/stock-readers: does not match/);
  assert.match(lines[6] ?? '', /verdict +DENIED: denied by .*deny-legacy\.yaml:4/);
  assert.match(lines[7] ?? '', /to change it +label the namespace/);
});

test('why survives an answer that lacks everything', () => {
  assert.match(renderWhy({}, undefined), /verdict/);
});

test('connections name the ends, the path and the proven client', () => {
  const text = renderConnections([
    {
      agent: 'b',
      direction: 'inbound',
      source: '10.91.1.3:40000',
      sourceWorkload: 'frontend',
      sourceNamespace: 'shop',
      sourceIdentity: 'spiffe://cluster.local/ns/shop/sa/frontend',
      originalDestination: '10.91.2.3:8080',
      path: 'hbone',
      ageMs: 1500,
      bytesReceived: 2048,
      bytesSent: 10,
    },
  ]);
  assert.match(
    text,
    /b +inbound +shop\/frontend +10\.91\.2\.3:8080 .* hbone +ns\/shop\/sa\/frontend +1\.5 s +2\.00 KiB +10 B/,
  );
  assert.match(renderConnections([]), /no live connection/);
});

test('a pod is found by its full name, its own name, or a clear beginning of it', () => {
  const pods = ['shop/catalog-v1', 'shop/catalog-v2', 'legacy/cron'].map((pod) => ({
    pod,
    node: 'a',
    netns: '',
    ip: '',
    state: 'running',
    enrolled: true,
    problem: '',
  }));
  const status = { processes: [], pods };
  assert.equal(findPodByName(status, 'legacy/cron').pod, 'legacy/cron');
  assert.equal(findPodByName(status, 'cron').pod, 'legacy/cron');
  assert.equal(findPodByName(status, 'cr').pod, 'legacy/cron');
  assert.throws(() => findPodByName(status, 'catalog'), /more than one pod.*catalog-v1, shop\/catalog-v2/);
  assert.throws(() => findPodByName(status, 'nobody'), /no pod nobody; choose from/);
});
