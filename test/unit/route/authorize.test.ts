import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { authorize, type ConnectionFacts } from '../../../agent/route/authorize.ts';
import { judgeDryRuns } from '../../../agent/route/dry-run.ts';
import { explain } from '../../../agent/route/explain.ts';
import type { MeshState } from '../../../agent/state/mesh-state.ts';
import type { GroupSchema } from '../../../api/gen/istio/security/authorization_pb.js';
import { getIp } from '../../../core/ip.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';
import { change, getWorkload, meshOf, policy, remove, workload } from '../../support/mesh-resources.ts';

const GLOBAL = { scope: 0, namespace: 'istio-system' } as const;
const SELECTOR = { scope: 2 } as const;
const ALLOW = { action: 0 } as const;
const DENY = { action: 1 } as const;

const FROM_A: ConnectionFacts = {
  source: formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'a', serviceAccount: 'app' }),
  sourceIp: getIp('10.0.0.1'),
  destinationIp: getIp('10.0.0.2'),
  destinationPort: 8080,
};
const PLAINTEXT: ConnectionFacts = { ...FROM_A, source: undefined };

type Groups = MessageInitShape<typeof GroupSchema>[];

const everyone: Groups = [{}];
const nobody: Groups = [];
const namespaceA: Groups = [{ rules: [{ matches: [{ namespaces: [{ matchType: { case: 'exact', value: 'a' } }] }] }] }];
const withoutIdentity: Groups = [
  { rules: [{ matches: [{ notPrincipals: [{ matchType: { case: 'presence', value: {} } }] }] }] },
];

const SERVER = workload('server', { ips: ['10.0.0.2'] });
const selected = (...authorizationPolicies: string[]) =>
  workload('server', { ips: ['10.0.0.2'], authorizationPolicies });

/** The verdict in one line. */
function verdict(state: MeshState, facts = FROM_A): string {
  const { kind, policy: key, ...rest } = authorize(state, getWorkload(state, 'server'), facts);
  const by = key === undefined ? '' : ` by ${key}`;
  return 'error' in rest ? `${rest.error.code}${by}` : `${kind}${by}`;
}

describe('the verdict', () => {
  const rows: [string, MeshState, string][] = [
    ['without policies is allow', meshOf(SERVER), 'allow'],
    [
      'is allow when an ALLOW matches',
      meshOf(SERVER, policy('p', { ...ALLOW, groups: namespaceA })),
      'allow by default/p',
    ],
    [
      'is deny when ALLOW policies exist and none matches',
      meshOf(SERVER, policy('p', { ...ALLOW, groups: nobody })),
      'POLICY_DENIED',
    ],
    [
      'is deny when a DENY matches, whatever is allowed',
      meshOf(SERVER, policy('d', { ...DENY, groups: everyone }), policy('p', { ...ALLOW, groups: everyone })),
      'POLICY_DENIED by default/d',
    ],
    [
      'is allow when no DENY matches and there is no ALLOW',
      meshOf(SERVER, policy('d', { ...DENY, groups: nobody })),
      'allow',
    ],
    [
      'does not depend on policies of other namespaces',
      meshOf(SERVER, policy('d', { ...DENY, namespace: 'other', groups: everyone })),
      'allow',
    ],
    [
      'depends on global policies',
      meshOf(SERVER, policy('d', { ...GLOBAL, ...DENY, groups: everyone })),
      'POLICY_DENIED by istio-system/d',
    ],
    [
      'does not depend on policies that select other workloads',
      meshOf(SERVER, policy('d', { ...SELECTOR, ...DENY, groups: everyone })),
      'allow',
    ],
    [
      'depends on policies the workload names',
      meshOf(selected('default/d'), policy('d', { ...SELECTOR, ...DENY, groups: everyone })),
      'POLICY_DENIED by default/d',
    ],
    [
      'is allow by a policy the workload names',
      meshOf(selected('default/p'), policy('p', { ...SELECTOR, ...ALLOW, groups: everyone })),
      'allow by default/p',
    ],
    [
      'counts a named ALLOW that does not match',
      meshOf(selected('default/p'), policy('p', { ...SELECTOR, ...ALLOW, groups: nobody })),
      'POLICY_DENIED',
    ],
    ['is deny while a named policy is unknown', meshOf(selected('default/late')), 'POLICY_UNKNOWN by default/late'],
    [
      'is deny while a named policy is unknown although an ALLOW matches',
      meshOf(selected('default/late'), policy('p', { ...ALLOW, groups: everyone })),
      'POLICY_UNKNOWN by default/late',
    ],
    [
      'names the DENY that matches before the unknown policy',
      meshOf(selected('default/late'), policy('d', { ...DENY, groups: everyone })),
      'POLICY_DENIED by default/d',
    ],
    ['ignores a dry-run DENY', meshOf(SERVER, policy('d', { ...DENY, dryRun: true, groups: everyone })), 'allow'],
    [
      'ignores a dry-run ALLOW, which does not close what is open',
      meshOf(SERVER, policy('p', { ...ALLOW, dryRun: true, groups: nobody })),
      'allow',
    ],
    [
      'ignores a named dry-run ALLOW beside an enforced one',
      meshOf(
        selected('default/dry'),
        policy('dry', { ...SELECTOR, ...ALLOW, dryRun: true, groups: everyone }),
        policy('p', { ...ALLOW, groups: nobody }),
      ),
      'POLICY_DENIED',
    ],
  ];
  for (const [name, state, expected] of rows) test(name, () => assert.equal(verdict(state), expected));
});

describe('strict mutual TLS', () => {
  const strict = { ...SELECTOR, ...DENY, namespace: 'istio-system', groups: withoutIdentity };
  const state = meshOf(
    selected('istio-system/istio_converted_static_strict'),
    policy('istio_converted_static_strict', strict),
  );

  test('refuses plaintext and nothing else', () => {
    assert.equal(verdict(state, PLAINTEXT), 'POLICY_DENIED by istio-system/istio_converted_static_strict');
    assert.equal(verdict(state), 'allow');
  });

  test('follows the current workload: attached later it refuses, detached it allows', () => {
    change(state, selected());
    assert.equal(verdict(state, PLAINTEXT), 'allow');
    change(state, selected('istio-system/istio_converted_static_strict'));
    assert.match(verdict(state, PLAINTEXT), /^POLICY_DENIED/);
  });
});

describe('a change of a policy', () => {
  test('of its scope moves it', () => {
    const state = meshOf(SERVER, policy('d', { ...DENY, groups: everyone }));
    assert.equal(verdict(state), 'POLICY_DENIED by default/d');
    change(state, policy('d', { ...SELECTOR, ...DENY, groups: everyone }));
    assert.equal(verdict(state), 'allow');
    change(state, policy('d', { ...DENY, scope: 0, groups: everyone }));
    assert.equal(verdict(state), 'POLICY_DENIED by default/d');
    change(state, policy('d', { ...DENY, scope: 0, dryRun: true, groups: everyone }));
    assert.equal(verdict(state), 'allow');
  });

  test('to nothing removes it, and whoever names it is closed until it is back', () => {
    const named = policy('p', { ...SELECTOR, ...ALLOW, groups: everyone });
    const state = meshOf(selected('default/p'), named);
    assert.equal(verdict(state), 'allow by default/p');
    remove(state, named);
    assert.equal(verdict(state), 'POLICY_UNKNOWN by default/p');
    change(state, named);
    assert.equal(verdict(state), 'allow by default/p');
  });

  test('that is refused leaves the last good one in force', () => {
    const state = meshOf(SERVER, policy('d', { ...DENY, groups: everyone }));
    const broken = policy('d', { ...DENY, groups: [{ rules: [{ matches: [{ principals: [{}] }] }] }] });
    const { errors } = state.apply({ typeUrl: broken.typeUrl, updated: [broken], removed: [] });
    assert.equal(errors.length, 1);
    assert.equal(verdict(state), 'POLICY_DENIED by default/d');
  });
});

describe('explain', () => {
  test('lists every policy that was looked at, and which one decided', () => {
    const state = meshOf(
      selected('default/named', 'default/late'),
      policy('named', { ...SELECTOR, ...ALLOW, groups: everyone }),
      policy('deny-none', { ...DENY, groups: nobody }),
      policy('global-deny', { ...GLOBAL, ...DENY, groups: everyone }),
      policy('dry', { ...DENY, dryRun: true, groups: everyone }),
      policy('elsewhere', { ...DENY, namespace: 'other', groups: everyone }),
    );
    const { verdict: found, findings, unknownPolicies } = explain(state, getWorkload(state, 'server'), FROM_A);
    assert.equal(found.kind, 'deny');
    assert.deepEqual(
      findings.map(({ policy: key, action, scope, dryRun, matched, decisive }) => [
        key,
        action,
        scope,
        dryRun,
        matched,
        decisive,
      ]),
      [
        ['default/deny-none', 'DENY', 'NAMESPACE', false, false, false],
        ['istio-system/global-deny', 'DENY', 'GLOBAL', false, true, true],
        ['default/named', 'ALLOW', 'WORKLOAD_SELECTOR', false, true, false],
        ['default/dry', 'DENY', 'NAMESPACE', true, true, false],
      ],
    );
    assert.deepEqual(unknownPolicies, ['default/late']);
  });
});

describe('dry runs', () => {
  const found = (state: MeshState, facts = FROM_A) =>
    judgeDryRuns(state, getWorkload(state, 'server'), facts).map(
      ({ action, matched, policies }) => `${action} ${matched} ${policies.join(' ')}`,
    );

  test('that match are reported, others and enforced policies are not', () => {
    const state = meshOf(
      selected('default/dry-named'),
      policy('dry-named', { ...SELECTOR, ...ALLOW, dryRun: true, groups: everyone }),
      policy('dry-deny', { ...DENY, dryRun: true, groups: everyone }),
      policy('dry-global', { ...GLOBAL, ...DENY, dryRun: true, groups: everyone }),
      policy('dry-none', { ...DENY, dryRun: true, groups: nobody }),
      policy('dry-not-named', { ...SELECTOR, ...DENY, dryRun: true, groups: everyone }),
      policy('elsewhere', { ...DENY, namespace: 'other', dryRun: true, groups: everyone }),
      policy('enforced', { ...ALLOW, groups: everyone }),
    );
    assert.deepEqual(found(state), [
      'DENY true istio-system/dry-global',
      'DENY true default/dry-deny',
      'ALLOW true default/dry-named',
    ]);
  });

  test('ALLOW policies of which none matches are reported together, a matching one speaks for all', () => {
    const state = meshOf(
      SERVER,
      policy('a', { ...ALLOW, dryRun: true, groups: nobody }),
      policy('b', { ...ALLOW, dryRun: true, groups: namespaceA }),
    );
    assert.deepEqual(found(state), ['ALLOW true default/b']);
    assert.deepEqual(found(state, PLAINTEXT), ['ALLOW false default/a default/b']);
  });

  test('a policy that applies to the namespace and is named by the workload too is reported once', () => {
    const state = meshOf(selected('default/twice'), policy('twice', { ...DENY, dryRun: true, groups: everyone }));
    assert.deepEqual(found(state), ['DENY true default/twice']);
  });

  test('nothing is reported where none applies', () => {
    const dry = policy('elsewhere', { ...DENY, namespace: 'other', dryRun: true, groups: everyone });
    for (const state of [meshOf(SERVER), meshOf(SERVER, dry)]) assert.deepEqual(found(state), []);
  });
});
