/** What the webhook answers, by the object and by what stands around it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ObjectStore } from '../../../control/model/object-store.ts';
import { DEFAULT_ANALYSIS_SETTINGS } from '../../../control/validation/view.ts';
import { BodyBudget } from '../../../control/webhook/body-budget.ts';
import { caBundlePatch, webhookConfiguration } from '../../../control/webhook/configuration.ts';
import { openJudges } from '../../../control/webhook/judge.ts';
import { answerReview } from '../../../control/webhook/review.ts';
import { TimeBudget, TimePerAddress } from '../../../control/webhook/time-budget.ts';
import { AmbitError } from '../../../core/errors.ts';
import { objectsOf } from '../../support/control.ts';

const WORLD = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
---
apiVersion: v1
kind: Pod
metadata: {name: stock-1, namespace: shop, labels: {app: stock}}
spec: {nodeName: a, serviceAccountName: stock, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: stock}, ports: [{port: 80, targetPort: 8080}]}
`;

function openWorld(isSynced = true): ReturnType<typeof openJudges> {
  const store = new ObjectStore();
  store.apply({ upserted: objectsOf(WORLD), removed: [] });
  return openJudges(store, DEFAULT_ANALYSIS_SETTINGS, () => isSynced);
}

const GET_ONLY = {
  selector: { matchLabels: { app: 'stock' } },
  rules: [{ to: [{ operation: { methods: ['GET'] } }] }],
};

function policy(spec: unknown, metadata: Record<string, unknown> = {}): Record<string, unknown> {
  const named = { name: 'get-only', namespace: 'shop', ...metadata };
  return { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata: named, spec };
}

function review(object: unknown, more: Record<string, unknown> = {}): unknown {
  const request = { uid: 'u-1', operation: 'CREATE', namespace: 'shop', name: 'get-only', object, ...more };
  return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request };
}

function ask(body: unknown, world = openWorld()): ReturnType<typeof answerReview>['response'] {
  return answerReview(body, world.judge).response;
}

test('a policy that cannot work is refused with object, field, reason, effect, remedy and code', () => {
  const { uid, allowed, status } = ask(review(policy(GET_ONLY)));
  assert.equal(uid, 'u-1');
  assert.equal(allowed, false);
  assert.equal(
    status?.message,
    'AuthorizationPolicy shop/get-only: rules[0].to[0].operation.methods needs an L7 proxy, but shop/stock has no waypoint; ' +
      'at L4 this ALLOW would deny everything. Bind the policy to a waypoint with targetRefs, or write the rule with ports, identities and addresses. AMB0107',
  );
});

test('a policy that works is allowed without a word', () => {
  const spec = { ...GET_ONLY, rules: [{ from: [{ source: { namespaces: ['shop'] } }] }] };
  assert.deepEqual(ask(review(policy(spec))), { uid: 'u-1', allowed: true });
});

test('what may become right through other objects is a warning', () => {
  const { allowed, warnings } = ask(review(policy({ selector: { matchLabels: { app: 'stok' } } })));
  assert.equal(allowed, true);
  assert.match(warnings?.[0] ?? '', /no workload has app=stok; .* AMB0102$/);
});

test('a target without a waypoint is a warning: the waypoint may come a moment later', () => {
  const { allowed, warnings } = ask(review(policy({ targetRefs: [{ kind: 'Service', name: 'stock' }] })));
  assert.equal(allowed, true);
  assert.match(warnings?.[0] ?? '', /Service shop\/stock has no waypoint.* AMB0111$/);
});

test('while not everything is known, absence says nothing, but what is wrong in itself is refused', () => {
  const world = openWorld(false);
  assert.deepEqual(ask(review(policy({ selector: { matchLabels: { app: 'stok' } } })), world), {
    uid: 'u-1',
    allowed: true,
  });
  assert.equal(ask(review(policy(GET_ONLY)), world).allowed, false);
});

test('an object that cannot be read is refused with its fields', () => {
  const { allowed, status } = ask(
    review(policy({ rules: [{ from: [{ source: { ipBlocks: ['x'], princpals: [] } }] }] })),
  );
  assert.equal(allowed, false);
  assert.equal(status?.code, 422);
  assert.match(
    status?.message ?? '',
    /princpals is not a field.*AMB0101\n.*ipBlocks\[0\] must be an IP address.*AMB0101/s,
  );
});

test('the names of the request count where the object has none yet', () => {
  const generated = { ...policy(GET_ONLY), metadata: { generateName: 'get-' } };
  assert.match(ask(review(generated, { name: '' })).status?.message ?? '', /^AuthorizationPolicy shop\/get-x: /);
});

test('deletions, statuses, other kinds and objects on their way out are let through', () => {
  const bad = policy(GET_ONLY);
  for (const body of [
    review(null, { operation: 'DELETE', oldObject: bad }),
    review(bad, { subResource: 'status' }),
    review({ ...bad, kind: 'Telemetry', apiVersion: 'telemetry.istio.io/v1' }),
    review(policy(GET_ONLY, { deletionTimestamp: '2026-01-01T00:00:00Z' }), { operation: 'UPDATE', oldObject: bad }),
  ]) {
    assert.equal(ask(body).allowed, true, JSON.stringify(body));
  }
});

test('an update that leaves a bad spec as it is passes with warnings; one that changes it does not', () => {
  const old = policy(GET_ONLY);
  const labelled = ask(review(policy(GET_ONLY, { labels: { a: 'b' } }), { operation: 'UPDATE', oldObject: old }));
  assert.equal(labelled.allowed, true);
  assert.match(labelled.warnings?.[0] ?? '', /AMB0107$/);
  const changed = ask(review(policy({ ...GET_ONLY, action: 'ALLOW' }), { operation: 'UPDATE', oldObject: old }));
  assert.equal(changed.allowed, false);
});

test('many findings are counted, not all named', () => {
  const rules = Array.from({ length: 30 }, () => GET_ONLY.rules[0]);
  const { status, warnings } = ask(review(policy({ rules })));
  assert.match(status?.message ?? '', /and 27 more; ambit analyze shows them all$/);
  assert.ok((warnings?.length ?? 0) <= 8);
});

test('whatever is sent gives an answer or one kind of error', () => {
  const anything = fc.oneof(
    fc.jsonValue(),
    fc.jsonValue().map((object) => review(object)),
    fc.jsonValue().map((spec) => review(policy(spec))),
    fc.jsonValue().map((metadata) => review({ ...policy(GET_ONLY), metadata })),
  );
  const world = openWorld();
  fc.assert(
    fc.property(anything, (body) => {
      try {
        assert.equal(answerReview(body, world.judge).response.uid, 'u-1');
      } catch (thrown) {
        if (!(thrown instanceof AmbitError && thrown.code === 'DECODE')) throw thrown;
      }
    }),
    { numRuns: 500 },
  );
});

test('the configuration asks about kinds of ours, spares kube-system and never locks the mesh namespace', () => {
  const made = webhookConfiguration({
    namespace: 'istio-system',
    target: { service: 'istiod' },
    failurePolicy: 'Fail',
  });
  const webhooks = made.webhooks as {
    failurePolicy: string;
    namespaceSelector: unknown;
    rules: { resources: string[] }[];
  }[];
  assert.deepEqual(
    webhooks.map(({ failurePolicy, namespaceSelector }) => [failurePolicy, JSON.stringify(namespaceSelector)]),
    [
      [
        'Fail',
        '{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["istio-system","kube-system"]}]}',
      ],
      [
        'Ignore',
        '{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["istio-system"]}]}',
      ],
    ],
  );
  const resources = new Set(webhooks.flatMap(({ rules }) => rules.flatMap((rule) => rule.resources)));
  assert.deepEqual([...resources].sort(), [
    'authorizationpolicies',
    'peerauthentications',
    'serviceentries',
    'workloadentries',
  ]);
});

test('the roots are patched into every entry that lacks them, and only there', () => {
  const made = webhookConfiguration({
    namespace: 'istio-system',
    target: { service: 'istiod' },
    failurePolicy: 'Ignore',
    caBundlePem: 'old',
  });
  const patch = caBundlePatch({ ...made, metadata: { resourceVersion: '7' } }, 'new');
  const value = Buffer.from('new').toString('base64');
  assert.deepEqual(patch, [
    { op: 'test', path: '/metadata/resourceVersion', value: '7' },
    { op: 'add', path: '/webhooks/0/clientConfig/caBundle', value },
    { op: 'add', path: '/webhooks/1/clientConfig/caBundle', value },
  ]);
  assert.equal(caBundlePatch(made, 'old'), undefined);
  for (const odd of [undefined, null, 7, {}, { webhooks: [null, {}] }])
    assert.equal(caBundlePatch(odd, 'new'), undefined);
});

test('a time budget gives its share of every second and saves nothing up', () => {
  let now = 0;
  const budget = new TimeBudget(0.25, () => now);
  const work = (ms: number) => budget.spend(() => (now += ms));
  now += 60_000;
  assert.notEqual(work(400), undefined, 'a piece of work may overdraw');
  assert.equal(work(1), undefined);
  now += 100;
  assert.equal(work(1), undefined);
  now += 200;
  assert.notEqual(work(1), undefined);
});

test('addresses have a budget each, and those that went quiet are forgotten', () => {
  const times = new TimePerAddress(0.1, 2);
  const first = times.of('a');
  assert.equal(times.of('a'), first);
  times.of('b');
  times.of('c');
  assert.notEqual(times.of('a'), first);
});

test('bodies are counted by address and in all, and given back', () => {
  const bodies = new BodyBudget(100, 60);
  assert.equal(bodies.take('a', 60), true);
  assert.equal(bodies.take('a', 1), false, 'of one address');
  assert.equal(bodies.take('b', 40), true);
  assert.equal(bodies.take('c', 1), false, 'in all');
  bodies.giveBack('a', 60);
  assert.equal(bodies.take('c', 1), true);
  assert.equal(bodies.held, 41);
});
