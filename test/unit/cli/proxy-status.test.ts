/** What `ambit proxy-status` makes of the lists that replicas give. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderProxyStatus, rowsOf } from '../../../cli/proxy-status.ts';
import type { ClientState, ClientTypeState } from '../../../control/xds/client-state.ts';

const TYPE: ClientTypeState = {
  type: 'type.googleapis.com/istio.workload.Address',
  mode: 'wildcard',
  names: 0,
  synced: true,
  servedVersion: 9,
  sentVersion: 9,
  ackedVersion: 9,
  ackedNonce: '3',
  behind: 0,
  behindMs: 0,
  responses: 3,
  resources: 9,
};
const CLIENT: ClientState = {
  stream: 1,
  caller: 'istio-system/ambit-agent',
  node: 'node-a',
  pod: 'ambit-agent-x',
  how: 'token',
  nodeId: '',
  peer: '192.0.2.1:5',
  connectedSince: new Date(Date.now() - 3000).toISOString(),
  types: [TYPE],
  bytesSent: 1,
};

test('an agent that has acknowledged everything is in sync', () => {
  const [row] = rowsOf('control-1', JSON.parse(JSON.stringify([CLIENT])));
  assert.deepEqual(row, {
    proxy: 'ambit-agent-x.istio-system',
    node: 'node-a',
    replica: 'control-1',
    connectedSince: CLIENT.connectedSince,
    synced: true,
    behind: 0,
    behindMs: 0,
    lastNack: undefined,
  });
  assert.match(
    renderProxyStatus(rowsOf('control-1', [CLIENT])),
    /node-a +ambit-agent-x\.istio-system +control-1 +3\.\d s +in sync +-/,
  );
});

test('what an agent lacks is added up over types, and its last refusal is shown', () => {
  const types = [
    { ...TYPE, synced: false, behind: 4, behindMs: 1500.5 },
    {
      ...TYPE,
      type: 'type.googleapis.com/istio.security.Authorization',
      synced: false,
      behind: 1,
      behindMs: 20,
      lastNack: { at: '2026-01-01T00:00:00Z', nonce: '7', reason: 'no such field' },
    },
  ];
  const [row] = rowsOf('control-1', [{ ...CLIENT, types }]);
  assert.equal(row?.synced, false);
  assert.equal(row?.behind, 5);
  assert.match(
    renderProxyStatus(rowsOf('control-1', [{ ...CLIENT, types }])),
    /5 behind for 1\.5 s +istio\.security\.Authorization: no such field/,
  );
});

test('a client that has asked for nothing yet is not in sync, and one without a pod goes by its account', () => {
  const [row] = rowsOf('control-1', [{ ...CLIENT, pod: '', types: [] }]);
  assert.equal(row?.synced, false);
  assert.equal(row?.proxy, 'istio-system/ambit-agent');
});

test('a page that is no list is named with its replica', () => {
  assert.throws(() => rowsOf('control-1', { not: 'a list' }), { code: 'ADMIN_UNREACHABLE', message: /control-1/ });
});
