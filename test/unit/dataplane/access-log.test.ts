import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AccessLogEntry, formatAccessLine, formatRefusalLine } from '../../../agent/dataplane/access-log.ts';
import { AmbitError } from '../../../core/errors.ts';
import { getIp } from '../../../core/ip.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';

const NOW = new Date('2026-01-01T00:00:00.000Z');

function identity(serviceAccount: string) {
  return formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount });
}

function entry(fields: Partial<AccessLogEntry> = {}): AccessLogEntry {
  return {
    source: {
      address: { ip: getIp('10.0.0.1'), port: 40000 },
      workload: 'client',
      namespace: 'default',
      identity: identity('client'),
      cluster: undefined,
    },
    destination: {
      address: { ip: getIp('10.0.0.2'), port: 15008 },
      workload: 'server',
      namespace: 'default',
      identity: identity('server'),
      cluster: undefined,
    },
    hboneAddress: '10.0.0.2:8080',
    service: undefined,
    direction: 'outbound',
    path: 'hbone',
    bytesSent: 11,
    bytesReceived: 22,
    durationMs: 3.2,
    error: undefined,
    policy: undefined,
    ...fields,
  };
}

test('a plain line has the fields of Istio in their order', () => {
  assert.equal(
    formatAccessLine('plain', entry(), NOW),
    '2026-01-01T00:00:00.000Z\tinfo\taccess\tconnection complete\t' +
      'src.addr=10.0.0.1:40000 src.workload="client" src.namespace="default" ' +
      'src.identity="spiffe://cluster.local/ns/default/sa/client" ' +
      'dst.addr=10.0.0.2:15008 dst.hbone_addr="10.0.0.2:8080" dst.workload="server" dst.namespace="default" ' +
      'dst.identity="spiffe://cluster.local/ns/default/sa/server" ' +
      'direction="outbound" path="hbone" bytes_sent=11 bytes_recv=22 duration="3ms"\n',
  );
});

test('a failed connection is an error line with the text and the code', () => {
  const error = new AmbitError('CONNECT_FAILED', 'connection refused');
  const line = JSON.parse(formatAccessLine('json', entry({ error, policy: 'ns/p' }), NOW));
  assert.equal(line.level, 'error');
  assert.equal(line.error, 'connection refused');
  assert.equal(line.reason, 'CONNECT_FAILED');
  assert.equal(line.policy, 'ns/p');
});

test('a refusal names both addresses, the direction and the reason', () => {
  const line = JSON.parse(
    formatRefusalLine(
      'json',
      {
        source: { ip: getIp('10.0.0.1'), port: 1 },
        destination: { ip: getIp('fd00::1'), port: 2 },
        direction: 'inbound',
        error: new AmbitError('LOOP', 'call to proxy port 15001'),
      },
      NOW,
    ),
  );
  assert.deepEqual(line, {
    level: 'warn',
    time: '2026-01-01T00:00:00.000Z',
    scope: 'access',
    message: 'connection failed',
    'src.addr': '10.0.0.1:1',
    'dst.addr': '[fd00::1]:2',
    direction: 'inbound',
    error: 'call to proxy port 15001',
    reason: 'LOOP',
  });
});

test('no text of a peer breaks the line or the format', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (text) => {
      const fields = { service: text, hboneAddress: text, error: new AmbitError('TUNNEL_STATUS', text) };
      const plain = formatAccessLine('plain', entry(fields), NOW);
      assert.equal(plain.indexOf('\n'), plain.length - 1);
      assert.doesNotMatch(plain.slice(0, -1).replaceAll('\t', ''), /[\p{Cc}\p{Zl}\p{Zp}]/u);
      const json = JSON.parse(formatAccessLine('json', entry(fields), NOW));
      assert.equal(json.error ?? '', text);
    }),
  );
});
