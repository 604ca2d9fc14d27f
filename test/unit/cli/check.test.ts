/** `ambit check` on pictures of clusters: each check with a good and a bad one, the report, and the exit code. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, test } from 'node:test';
import type { ReadPage } from '../../../cli/agents.ts';
import { ALL_CHECKS, checksFor } from '../../../cli/check/all-checks.ts';
import { type CheckLevel, nameSome } from '../../../cli/check/check.ts';
import { renderReport } from '../../../cli/check/report.ts';
import { exitCodeOf, hintOf, runChecks } from '../../../cli/check/run.ts';
import type { ClusterReader } from '../../../cli/check/world.ts';
import { CheckWorld } from '../../../cli/check/world.ts';
import { KubernetesApiError } from '../../../kube/api-error.ts';
import { clusterPicture as cluster, type PictureObjects as Objects } from '../../support/cluster-picture.ts';
import { createAuthority } from '../../support/pki.ts';
import { NODE_CASES } from './node-check-cases.ts';

const NOW_MS = Date.parse('2026-11-21T12:00:00Z');
const DAY_MS = 86_400_000;

function named(name: string, rest: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}): unknown {
  return { ...rest, metadata: { name, ...metadata } };
}

const NODE = (name: string, info: Record<string, unknown> = {}, ready = 'True', taints: unknown[] = []): unknown =>
  named(name, {
    spec: { taints },
    status: {
      nodeInfo: { kernelVersion: '6.1.0', architecture: 'amd64', operatingSystem: 'linux', ...info },
      conditions: [{ type: 'Ready', status: ready }],
    },
  });
const LEASE = (name: string, aheadMs: number): unknown =>
  named(name, { spec: { renewTime: new Date(NOW_MS + aheadMs).toISOString() } }, { namespace: 'kube-node-lease' });
const ROOT = createAuthority().pem;
const ROOT_END_MS = new X509Certificate(ROOT).validToDate.getTime();
const LABELS = (name: string, more: Record<string, string> = {}): Record<string, unknown> => ({
  namespace: 'istio-system',
  labels: {
    'app.kubernetes.io/name': name,
    'app.kubernetes.io/part-of': 'ambit',
    'app.kubernetes.io/version': '0.1.0',
    ...more,
  },
});
const CONTROL = (available: number, version = '0.1.0'): unknown =>
  named(
    'ambit-control',
    { spec: { replicas: 2 }, status: { availableReplicas: available } },
    LABELS('ambit-control', { 'app.kubernetes.io/version': version }),
  );
const AGENTS = (updated = 2): unknown =>
  named(
    'ambit-agent',
    {
      spec: {
        template: {
          spec: { containers: [{ env: [{ name: 'AMBIT_EXCLUDED_NAMESPACES', value: 'kube-system,istio-system' }] }] },
        },
      },
      status: { desiredNumberScheduled: 2, updatedNumberScheduled: updated },
    },
    LABELS('ambit-agent'),
  );
const AGENT = (node: string, ready = 'True', restartCount = 0): unknown =>
  named(
    `ambit-agent-${node}`,
    {
      spec: { nodeName: node },
      status: {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: ready }],
        containerStatuses: [{ restartCount }],
      },
    },
    LABELS('ambit-agent'),
  );
const NAMESPACE = (name: string, labels: Record<string, string> = {}): unknown =>
  named(name, { status: { phase: 'Active' } }, { labels });
const POD = (name: string, redirection: string | undefined, spec: Record<string, unknown> = {}): unknown =>
  named(
    name,
    { spec: { nodeName: 'n1', ...spec }, status: { phase: 'Running' } },
    {
      namespace: 'shop',
      annotations: redirection === undefined ? {} : { 'ambient.istio.io/redirection': redirection },
    },
  );
const SHOP = NAMESPACE('shop', { 'istio.io/dataplane-mode': 'ambient' });
const ROOT_MAP = (namespace: string, pem = ROOT): unknown =>
  named('istio-ca-root-cert', { data: { 'root-cert.pem': pem } }, { namespace });
const WRITER = (holder: string, ageMs: number): unknown =>
  named(
    'ambit-control',
    { spec: { holderIdentity: holder, leaseDurationSeconds: 6, renewTime: new Date(NOW_MS - ageMs).toISOString() } },
    { namespace: 'istio-system' },
  );
const WEBHOOK = (caBundle: string): unknown =>
  named(
    'ambit',
    { webhooks: [{ name: 'validation.ambit.dev', clientConfig: { caBundle } }] },
    { labels: { 'app.kubernetes.io/part-of': 'ambit' } },
  );

interface Case {
  readonly id: string;
  readonly what: string;
  readonly objects: Objects;
  readonly level: CheckLevel;
  readonly text: RegExp;
  readonly version?: unknown;
  readonly allowed?: boolean;
  readonly nowMs?: number;
  readonly pages?: ReadPage;
}

const CASES: readonly Case[] = [
  { id: 'kubernetes.api', what: 'a current server', objects: {}, level: 'ok', text: /v1.34.4/ },
  {
    id: 'kubernetes.api',
    what: 'an old server',
    objects: {},
    level: 'failed',
    text: /older than/,
    version: { gitVersion: 'v1.25.0', minor: '25' },
  },
  { id: 'kubernetes.rights', what: 'an administrator', objects: {}, level: 'ok', text: /may be created/ },
  {
    id: 'kubernetes.rights',
    what: 'a reader',
    objects: {},
    level: 'failed',
    text: /not allowed to create namespaces/,
    allowed: false,
  },
  {
    id: 'kubernetes.nodes',
    what: 'good nodes',
    objects: { Node: [NODE('n1'), NODE('n2')] },
    level: 'ok',
    text: /2 ready: n1, n2/,
  },
  {
    id: 'kubernetes.nodes',
    what: 'an old kernel',
    objects: { Node: [NODE('n1', { kernelVersion: '4.18.0-el8' })] },
    level: 'failed',
    text: /n1 runs kernel 4.18/,
  },
  {
    id: 'kubernetes.nodes',
    what: 'an unknown processor',
    objects: { Node: [NODE('n1', { architecture: 's390x' })] },
    level: 'failed',
    text: /s390x/,
  },
  {
    id: 'kubernetes.nodes',
    what: 'a node that is not ready',
    objects: { Node: [NODE('n1', {}, 'Unknown')] },
    level: 'warning',
    text: /n1 is not ready/,
  },
  { id: 'kubernetes.nodes', what: 'no nodes', objects: {}, level: 'failed', text: /no nodes/ },
  {
    id: 'kubernetes.clocks',
    what: 'clocks that agree',
    objects: { Lease: [LEASE('n1', -8000)] },
    level: 'ok',
    text: /1 nodes/,
  },
  {
    id: 'kubernetes.clocks',
    what: 'a clock ahead',
    objects: { Lease: [LEASE('n1', 300_000)] },
    level: 'failed',
    text: /n1 is 300 s ahead/,
  },
  { id: 'kubernetes.clocks', what: 'no leases', objects: {}, level: 'skipped', text: /no node renews/ },
  {
    id: 'kubernetes.gateway-api',
    what: 'its definitions',
    objects: { CustomResourceDefinition: [named('gateways.gateway.networking.k8s.io')] },
    level: 'ok',
    text: /installed/,
  },
  { id: 'kubernetes.gateway-api', what: 'none of it', objects: {}, level: 'warning', text: /not defined/ },
  {
    id: 'kubernetes.pod-security',
    what: 'no restriction',
    objects: { Namespace: [NAMESPACE('istio-system')] },
    level: 'ok',
    text: /not restricted/,
  },
  {
    id: 'kubernetes.pod-security',
    what: 'a restricted namespace',
    objects: { Namespace: [NAMESPACE('istio-system', { 'pod-security.kubernetes.io/enforce': 'baseline' })] },
    level: 'failed',
    text: /enforces baseline/,
  },
  { id: 'conflicts.agents', what: 'nobody else', objects: { DaemonSet: [AGENTS()] }, level: 'ok', text: /no other/ },
  {
    id: 'conflicts.agents',
    what: "Istio's agents",
    objects: { DaemonSet: [named('istio-cni-node', {}, { namespace: 'istio-system' })] },
    level: 'failed',
    text: /istio-system\/istio-cni-node/,
  },
  { id: 'conflicts.control-plane', what: 'a free name', objects: {}, level: 'ok', text: /free/ },
  {
    id: 'conflicts.control-plane',
    what: 'a foreign istiod',
    objects: { Service: [named('istiod', {}, { namespace: 'istio-system' })] },
    level: 'failed',
    text: /another control plane/,
  },
  { id: 'conflicts.cilium', what: 'another network', objects: {}, level: 'ok', text: /not the network/ },
  {
    id: 'conflicts.cilium',
    what: 'an exclusive Cilium',
    objects: { ConfigMap: [named('cilium-config', { data: {} }, { namespace: 'kube-system' })] },
    level: 'failed',
    text: /takes the configurations/,
  },
  {
    id: 'conflicts.cilium',
    what: 'a Cilium that balances in sockets',
    objects: {
      ConfigMap: [
        named(
          'cilium-config',
          { data: { 'cni-exclusive': 'false', 'bpf-lb-sock': 'true' } },
          { namespace: 'kube-system' },
        ),
      ],
    },
    level: 'failed',
    text: /service addresses inside pods/,
  },
  { id: 'conflicts.injection', what: 'one label', objects: { Namespace: [SHOP] }, level: 'ok', text: /no namespace/ },
  {
    id: 'conflicts.injection',
    what: 'both labels',
    objects: { Namespace: [NAMESPACE('old', { 'istio.io/dataplane-mode': 'ambient', 'istio-injection': 'enabled' })] },
    level: 'warning',
    text: /old/,
  },
  { id: 'control.ready', what: 'all replicas', objects: { Deployment: [CONTROL(2)] }, level: 'ok', text: /2 of 2/ },
  {
    id: 'control.ready',
    what: 'some replicas',
    objects: { Deployment: [CONTROL(1)] },
    level: 'warning',
    text: /1 of 2/,
  },
  {
    id: 'control.ready',
    what: 'no replica',
    objects: { Deployment: [CONTROL(0)] },
    level: 'failed',
    text: /none of 2/,
  },
  {
    id: 'control.ready',
    what: 'no control plane',
    objects: {},
    level: 'failed',
    text: /no control plane in namespace istio-system/,
  },
  {
    id: 'control.version',
    what: 'one version',
    objects: { Deployment: [CONTROL(2)], DaemonSet: [AGENTS()] },
    level: 'ok',
    text: /^0.1.0$/,
  },
  {
    id: 'control.version',
    what: 'an older control plane',
    objects: { Deployment: [CONTROL(2, '0.0.9')] },
    level: 'warning',
    text: /0.0.9/,
  },
  { id: 'control.leader', what: 'a writer', objects: { Lease: [WRITER('a', 1000)] }, level: 'ok', text: /a holds/ },
  {
    id: 'control.leader',
    what: 'a writer that is gone',
    objects: { Lease: [WRITER('a', 60_000)] },
    level: 'failed',
    text: /not renewed .* for 60 s/,
  },
  { id: 'control.leader', what: 'nobody', objects: {}, level: 'failed', text: /no replica/ },
  {
    id: 'control.webhook',
    what: 'a webhook with its certificate',
    objects: { ValidatingWebhookConfiguration: [WEBHOOK('eA==')] },
    level: 'ok',
    text: /1 registered/,
  },
  {
    id: 'control.webhook',
    what: 'a webhook without',
    objects: { ValidatingWebhookConfiguration: [WEBHOOK('')] },
    level: 'failed',
    text: /no caBundle/,
  },
  { id: 'control.webhook', what: 'no webhook', objects: {}, level: 'warning', text: /no validating webhook/ },
  {
    id: 'identity.root',
    what: 'a fresh root',
    objects: { ConfigMap: [ROOT_MAP('istio-system')] },
    level: 'ok',
    text: /3000 days left, 1 trusted/,
    nowMs: ROOT_END_MS - 3000 * DAY_MS,
  },
  {
    id: 'identity.root',
    what: 'a root near its end',
    objects: { ConfigMap: [ROOT_MAP('istio-system')] },
    level: 'warning',
    text: /10 days/,
    nowMs: ROOT_END_MS - 10 * DAY_MS,
  },
  {
    id: 'identity.root',
    what: 'an expired root',
    objects: { ConfigMap: [ROOT_MAP('istio-system')] },
    level: 'failed',
    text: /expired/,
    nowMs: ROOT_END_MS + 1000,
  },
  { id: 'identity.root', what: 'no root', objects: {}, level: 'failed', text: /no root certificate/ },
  {
    id: 'identity.distribution',
    what: 'the root everywhere',
    objects: { Namespace: [NAMESPACE('istio-system'), SHOP], ConfigMap: [ROOT_MAP('istio-system'), ROOT_MAP('shop')] },
    level: 'ok',
    text: /2 namespaces/,
  },
  {
    id: 'identity.distribution',
    what: 'a namespace without',
    objects: { Namespace: [NAMESPACE('istio-system'), SHOP], ConfigMap: [ROOT_MAP('istio-system')] },
    level: 'failed',
    text: /in shop/,
  },
  {
    id: 'agents.everywhere',
    what: 'an agent on each node',
    objects: { DaemonSet: [AGENTS()], Node: [NODE('n1'), NODE('n2')], Pod: [AGENT('n1'), AGENT('n2')] },
    level: 'ok',
    text: /2 of 2/,
  },
  {
    id: 'agents.everywhere',
    what: 'a node without a ready agent',
    objects: { DaemonSet: [AGENTS()], Node: [NODE('n1'), NODE('n2')], Pod: [AGENT('n1'), AGENT('n2', 'False')] },
    level: 'failed',
    text: /no ready agent on n2/,
  },
  {
    id: 'agents.rollout',
    what: 'settled agents',
    objects: { DaemonSet: [AGENTS()], Pod: [AGENT('n1')] },
    level: 'ok',
    text: /none restarted/,
  },
  {
    id: 'agents.rollout',
    what: 'agents that restart',
    objects: { DaemonSet: [AGENTS()], Pod: [AGENT('n1', 'True', 4)] },
    level: 'warning',
    text: /4 times/,
  },
  {
    id: 'agents.rollout',
    what: 'an unfinished update',
    objects: { DaemonSet: [AGENTS(1)] },
    level: 'warning',
    text: /1 of 2 agents are updated/,
  },
  {
    id: 'agents.taints',
    what: 'a node whose taint stayed',
    objects: { Node: [NODE('n1', {}, 'True', [{ key: 'cni.istio.io/not-ready' }])], Pod: [AGENT('n1')] },
    level: 'failed',
    text: /still tainted/,
  },
  {
    id: 'agents.taints',
    what: 'a node that is new',
    objects: { Node: [NODE('n1', {}, 'True', [{ key: 'cni.istio.io/not-ready' }])] },
    level: 'warning',
    text: /waits for its agent/,
  },
  {
    id: 'agents.taints',
    what: 'other taints',
    objects: { Node: [NODE('n1', {}, 'True', [{ key: 'gpu' }])] },
    level: 'ok',
    text: /no node/,
  },
  {
    id: 'capture.pods',
    what: 'captured pods',
    objects: { Namespace: [SHOP], Pod: [POD('a', 'enabled'), POD('host', undefined, { hostNetwork: true })] },
    level: 'ok',
    text: /1 of 1/,
  },
  {
    id: 'capture.pods',
    what: 'a labelled pod that is not captured',
    objects: { Namespace: [SHOP], Pod: [POD('a', 'enabled'), POD('b', undefined)] },
    level: 'failed',
    text: /although labelled: shop\/b/,
  },
  {
    id: 'capture.pods',
    what: 'a pod that is held back',
    objects: { Namespace: [SHOP], Pod: [POD('b', 'pending')] },
    level: 'failed',
    text: /held back: shop\/b/,
  },
  {
    id: 'capture.pods',
    what: 'a pod that was left in',
    objects: { Namespace: [NAMESPACE('shop')], Pod: [POD('b', 'enabled')] },
    level: 'warning',
    text: /although not labelled/,
  },
  { id: 'capture.pods', what: 'an empty mesh', objects: {}, level: 'warning', text: /no pod is in the mesh/ },
  ...NODE_CASES,
];

describe('the checks', () => {
  for (const { id, what, objects, level, text, version, allowed, nowMs, pages } of CASES) {
    test(`${id} on ${what}: ${level}`, async () => {
      const client = cluster(objects, {
        ...(version === undefined ? {} : { version }),
        ...(allowed === undefined ? {} : { allowed }),
      });
      const world = new CheckWorld({
        client,
        ...(pages === undefined ? {} : { pages }),
        namespace: 'istio-system',
        node: undefined,
        nowMs: () => nowMs ?? NOW_MS,
      });
      const results = await runChecks(
        ALL_CHECKS.filter((check) => check.id === id),
        world,
      );
      const found = results.find((result) => result.level === level);
      assert.ok(found !== undefined, JSON.stringify(results));
      assert.match(found.text, text);
      if (level === 'ok') assert.equal(results.length, 1);
    });
  }

  test('each has a case where it is content and one where it is not, and an id of its own', () => {
    const ids = ALL_CHECKS.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) {
      const levels = CASES.filter((one) => one.id === id).map(({ level }) => level);
      assert.ok(levels.includes('ok'), `${id} is never ok`);
      assert.ok(
        levels.some((level) => level === 'failed' || level === 'warning'),
        `${id} never complains`,
      );
    }
  });

  test('one that may not look says so and the others go on', async () => {
    const refusing: ClusterReader = {
      ...cluster({}),
      list: async () => {
        throw new KubernetesApiError('nodes is forbidden', { status: 403, reason: 'Forbidden' });
      },
    };
    const world = new CheckWorld({ client: refusing, namespace: 'istio-system', node: undefined, nowMs: () => NOW_MS });
    const results = await runChecks(checksFor('pre'), world);
    const nodes = results.find(({ id }) => id === 'kubernetes.nodes');
    assert.deepEqual([nodes?.level, nodes?.text], ['skipped', 'could not be looked at: nodes is forbidden']);
    assert.equal(results.find(({ id }) => id === 'kubernetes.api')?.level, 'ok');
    assert.equal(exitCodeOf(results), 1);
  });
});

describe('the report', () => {
  const results = [
    { id: 'a.one', group: 'kubernetes', hint: hintOf('a.one'), level: 'ok', text: 'fine' },
    {
      id: 'b.longer',
      group: 'traffic',
      hint: hintOf('b.longer'),
      level: 'failed',
      text: 'broken',
      fix: 'do this\nthen that',
    },
  ] as const;

  test('shows groups, aligned ids, the fix below the finding, and a summary', () => {
    assert.equal(
      renderReport(results, false),
      [
        'kubernetes',
        '  √ a.one     fine',
        'traffic',
        '  × b.longer  broken',
        '              fix: do this',
        '                   then that',
        '              see docs/CHECKS.md#blonger',
        '',
        '1 ok, 1 failed',
      ].join('\n'),
    );
  });

  test('ends with an exit code that scripts can use', () => {
    assert.equal(exitCodeOf([]), 0);
    assert.equal(exitCodeOf(results), 2);
    assert.equal(exitCodeOf(results.slice(0, 1)), 0);
  });

  test('names a few of many', () => {
    assert.equal(nameSome(['a', 'b'], 2), 'a, b');
    assert.equal(nameSome(['a', 'b', 'c'], 2), 'a, b and 1 more');
  });
});
