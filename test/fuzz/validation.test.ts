/** Whatever stands in a file or comes from an API server, the checks say something or nothing, and never fail. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { analyze } from '../../control/validation/analyze.ts';
import { FINDING_TABLE } from '../../control/validation/codes.ts';
import { collect } from '../../control/validation/collect.ts';
import { sentence } from '../../control/validation/finding.ts';

const KINDS: readonly (readonly [apiVersion: string, kind: string])[] = [
  ['v1', 'Namespace'],
  ['v1', 'Pod'],
  ['v1', 'Service'],
  ['v1', 'ServiceAccount'],
  ['v1', 'ConfigMap'],
  ['apps/v1', 'Deployment'],
  ['batch/v1', 'CronJob'],
  ['networking.k8s.io/v1', 'NetworkPolicy'],
  ['security.istio.io/v1', 'AuthorizationPolicy'],
  ['security.istio.io/v1', 'PeerAuthentication'],
  ['networking.istio.io/v1', 'ServiceEntry'],
  ['networking.istio.io/v1', 'WorkloadEntry'],
  ['gateway.networking.k8s.io/v1', 'Gateway'],
  ['gateway.networking.k8s.io/v1', 'GatewayClass'],
];

/** Mostly words that mean something to some kind, sometimes anything. */
const scalar = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      'a',
      'ALLOW',
      'DENY',
      'STRICT',
      '80',
      '10.0.0.1',
      '10.0.0.0/8',
      '*',
      'TCP',
      'STATIC',
      'Ingress',
      80,
      true,
    ),
  },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
);
const key = fc.constantFrom(
  ...['selector', 'matchLabels', 'rules', 'from', 'to', 'when', 'source', 'operation', 'ports', 'port', 'action'],
  ...[
    'targetRefs',
    'kind',
    'name',
    'mtls',
    'mode',
    'portLevelMtls',
    '80',
    'podSelector',
    'ingress',
    'egress',
    'template',
  ],
  ...[
    'metadata',
    'spec',
    'labels',
    'hosts',
    'resolution',
    'endpoints',
    'address',
    'namespaces',
    'principals',
    'methods',
  ],
);
const tree = fc.letrec((tie) => ({
  node: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc.array(tie('node'), { maxLength: 3 }),
    fc.dictionary(key, tie('node'), { maxKeys: 5 }),
  ),
})).node;
const labels = fc.dictionary(
  fc.constantFrom(
    'app',
    'istio.io/dataplane-mode',
    'istio.io/use-waypoint',
    'istio.io/waypoint-for',
    'istio-injection',
  ),
  fc.constantFrom('a', 'ambient', 'none', 'enabled', 'all'),
  { maxKeys: 3 },
);
const object = fc
  .record({
    type: fc.constantFrom(...KINDS),
    name: fc.constantFrom('a', 'b', 'istio'),
    namespace: fc.constantFrom('shop', 'istio-system'),
    labels,
    spec: tree,
  })
  .map(({ type: [apiVersion, kind], name, namespace, labels: of, spec }) => ({
    apiVersion,
    kind,
    metadata: kind === 'Namespace' || kind === 'GatewayClass' ? { name, labels: of } : { name, namespace, labels: of },
    spec,
  }));

test('random objects of every kind are judged, in files and on a cluster', () => {
  let found = 0;
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 20, arbitrary: object }, { weight: 1, arbitrary: fc.jsonValue() }), { maxLength: 8 }),
      fc.boolean(),
      (values, complete) => {
        const { view, findings } = collect(values, complete);
        for (const one of [...findings, ...analyze(view)]) {
          found++;
          assert.ok(Object.hasOwn(FINDING_TABLE, one.code));
          assert.ok(!/undefined|NaN|\[object/.test(sentence(one)), sentence(one));
        }
      },
    ),
    { numRuns: 3000 },
  );
  assert.ok(found > 1000, `only ${found} findings`);
});
