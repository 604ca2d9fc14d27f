/** The screen of `ambit status`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MeshStatus } from '../../../cli/status/read-status.ts';
import { renderStatus } from '../../../cli/status/render-status.ts';

const WELL: MeshStatus = {
  namespace: 'istio-system',
  control: { replicas: 2, available: 2, version: '0.1.0', leader: 'ambit-control-a' },
  agents: [
    {
      node: 'n1',
      pod: 'ambit-agent-x',
      ready: true,
      version: '0.1.0',
      captured: 14,
      pending: 0,
      memoryBytes: 80 * 1024 * 1024,
      inSync: true,
      problem: undefined,
    },
  ],
  namespaces: [{ name: 'shop', pods: 14, captured: 14 }],
  policies: [],
  unknown: [],
  problems: [],
};

test('a healthy mesh is one screen that ends well', () => {
  assert.equal(
    renderStatus(WELL, false),
    [
      'control plane  2 of 2 replicas, version 0.1.0, writer ambit-control-a',
      '',
      'NODE  AGENT          READY  VERSION  CAPTURED  PENDING  MEMORY    DISCOVERY',
      'n1    ambit-agent-x  yes    0.1.0          14        0  80.0 MiB  in sync',
      '',
      'NAMESPACE  IN THE MESH',
      'shop       14 of 14 pods',
      '',
      'policies  everything is enforced as written',
      '',
      '√ all well',
    ].join('\n'),
  );
});

test('what is wrong is said last, with the next thing to type; policies with their codes', () => {
  const text = renderStatus(
    {
      ...WELL,
      agents: [
        {
          node: 'n2',
          pod: '',
          ready: false,
          version: undefined,
          captured: 0,
          pending: 0,
          memoryBytes: undefined,
          inSync: false,
          problem: 'no agent',
        },
      ],
      namespaces: [],
      policies: [
        { code: 'AMB0107', object: 'AuthorizationPolicy shop/x', severity: 'error', message: 'needs an L7 proxy' },
      ],
      unknown: ['discovery: forbidden'],
      problems: ['n2: no agent', 'shop: 1 of 2 pods are in the mesh'],
    },
    false,
  );
  assert.match(text, /^n2 {4}- {6}no {5}- /m);
  assert.match(text, /^AuthorizationPolicy shop\/x {2}AMB0107 {2}needs an L7 proxy$/m);
  assert.match(text, /kubectl label namespace <name>/);
  assert.ok(
    text.endsWith(
      'not known: discovery: forbidden\n\n× n2: no agent\n× shop: 1 of 2 pods are in the mesh\nnext: ambit check',
    ),
    text,
  );
});

test('a thousand namespaces are still one screen', () => {
  const namespaces = Array.from({ length: 1000 }, (_, index) => ({ name: `n${index}`, pods: 1, captured: 1 }));
  const text = renderStatus({ ...WELL, namespaces }, false);
  assert.ok(text.split('\n').length < 40);
  assert.match(text, /and 985 more namespaces/);
});
