/** The screen of `ambit status`. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ReadPage } from '../../../cli/agents.ts';
import { CheckWorld } from '../../../cli/check/world.ts';
import { type MeshStatus, readStatus } from '../../../cli/status/read-status.ts';
import { renderStatus } from '../../../cli/status/render-status.ts';
import { clusterPicture, type PictureObjects } from '../../support/cluster-picture.ts';
import { reportOf } from './node-check-cases.ts';

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

describe('the status of a cluster', () => {
  const LABELS = (name: string): Record<string, string> => ({
    'app.kubernetes.io/name': name,
    'app.kubernetes.io/version': '0.1.0',
  });
  const meshObject = (name: string, part: string, rest: Record<string, unknown>): unknown => ({
    metadata: { name, namespace: 'istio-system', labels: LABELS(part) },
    ...rest,
  });
  const running = (nodeName: string): Record<string, unknown> => ({
    spec: { nodeName },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  });
  const shopPod = (name: string, redirection: Record<string, string>): unknown => ({
    metadata: { name, namespace: 'shop', annotations: redirection },
    ...running('n1'),
  });
  const objects: PictureObjects = {
    Namespace: [
      { metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } } },
      { metadata: { name: 'empty', labels: { 'istio.io/dataplane-mode': 'ambient' } } },
      { metadata: { name: 'outside' } },
    ],
    Node: [{ metadata: { name: 'n1' } }, { metadata: { name: 'n2' } }],
    Deployment: [
      meshObject('ambit-control', 'ambit-control', { spec: { replicas: 2 }, status: { availableReplicas: 2 } }),
    ],
    DaemonSet: [
      meshObject('ambit-agent', 'ambit-agent', { status: { desiredNumberScheduled: 2, updatedNumberScheduled: 1 } }),
    ],
    Lease: [meshObject('ambit-control', '', { spec: { holderIdentity: 'ambit-control-a_1234' } })],
    Pod: [
      meshObject('agent-1', 'ambit-agent', running('n1')),
      meshObject('control-1', 'ambit-control', running('n1')),
      shopPod('in', { 'ambient.istio.io/redirection': 'enabled' }),
      shopPod('not-yet', {}),
    ],
  };
  const world = (pages: ReadPage): CheckWorld =>
    new CheckWorld({
      client: clusterPicture(objects),
      pages,
      namespace: 'istio-system',
      node: undefined,
      nowMs: () => Date.parse('2026-11-21T12:00:00Z'),
    });

  test('counts pods by namespace, names nodes without an agent and an unfinished rollout', async () => {
    const status = await readStatus(
      world(async (_namespace, pod, _port, path) => {
        if (path === '/debug/clients') return [];
        assert.equal(pod, 'agent-1');
        return reportOf();
      }),
    );
    assert.deepEqual(status.control, { replicas: 2, available: 2, version: '0.1.0', leader: 'ambit-control-a' });
    assert.deepEqual(status.namespaces, [
      { name: 'empty', pods: 0, captured: 0 },
      { name: 'shop', pods: 2, captured: 1 },
    ]);
    assert.deepEqual(
      status.agents.map(({ node, pod, captured, inSync }) => [node, pod, captured, inSync]),
      [
        ['n1', 'agent-1', 1, true],
        ['n2', '', 0, false],
      ],
    );
    assert.deepEqual(status.problems, [
      'n2: no agent',
      'shop: 1 of 2 pods are in the mesh',
      '1 of 2 agents are updated',
    ]);
  });

  test('says what it could not look at, and goes on', async () => {
    const status = await readStatus(
      world(async () => {
        throw new Error('pods/portforward is forbidden');
      }),
    );
    assert.deepEqual(status.unknown, ['discovery: pods/portforward is forbidden']);
    assert.equal(status.problems[0], 'n1: pods/portforward is forbidden');
  });
});
