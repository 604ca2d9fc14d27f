/** Who belongs to the mesh, as a table: every rule, every pair of labels, and the order of precedence. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  DATAPLANE_MODE_LABEL,
  decideEligibility,
  type EligibilityPod,
  type EligibilitySettings,
  eligibilitySettings,
  SIDECAR_STATUS_ANNOTATION,
} from '../../../core/enrolment/eligibility.ts';
import { matchesSelector } from '../../../core/enrolment/label-selector.ts';

const AMBIENT = { [DATAPLANE_MODE_LABEL]: 'ambient' };
const NONE = { [DATAPLANE_MODE_LABEL]: 'none' };
const SIDECAR = { [SIDECAR_STATUS_ANNOTATION]: '{"version":"1"}' };

interface Row {
  readonly name: string;
  readonly pod?: Partial<EligibilityPod>;
  readonly namespace?: Readonly<Record<string, string>>;
  readonly settings?: EligibilitySettings;
  /** `eligible`, or the reason. */
  readonly expected: string;
}

const ROWS: readonly Row[] = [
  { name: 'nothing is labelled', expected: 'notSelected' },
  { name: 'the namespace is labelled', namespace: AMBIENT, expected: 'eligible' },
  { name: 'the pod is labelled', pod: { labels: AMBIENT }, expected: 'eligible' },
  { name: 'both are labelled', pod: { labels: AMBIENT }, namespace: AMBIENT, expected: 'eligible' },
  { name: 'the pod opts out of its namespace', pod: { labels: NONE }, namespace: AMBIENT, expected: 'optedOut' },
  {
    name: 'the pod opts in although its namespace opts out',
    pod: { labels: AMBIENT },
    namespace: NONE,
    expected: 'eligible',
  },
  { name: 'the namespace opts out', namespace: NONE, expected: 'notSelected' },
  {
    name: 'an unknown value on the namespace',
    namespace: { [DATAPLANE_MODE_LABEL]: 'Ambient' },
    expected: 'notSelected',
  },
  {
    name: 'an unknown value on the pod',
    pod: { labels: { [DATAPLANE_MODE_LABEL]: 'x' } },
    namespace: AMBIENT,
    expected: 'eligible',
  },
  { name: 'host network, namespace labelled', pod: { hostNetwork: true }, namespace: AMBIENT, expected: 'hostNetwork' },
  { name: 'host network, pod labelled', pod: { hostNetwork: true, labels: AMBIENT }, expected: 'hostNetwork' },
  {
    name: 'an injected sidecar, namespace labelled',
    pod: { annotations: SIDECAR },
    namespace: AMBIENT,
    expected: 'sidecar',
  },
  { name: 'an injected sidecar, pod labelled', pod: { annotations: SIDECAR, labels: AMBIENT }, expected: 'sidecar' },
  {
    name: 'an excluded namespace beats the pod label',
    pod: { namespace: 'kube-system', labels: AMBIENT },
    expected: 'excludedNamespace',
  },
  {
    name: 'an excluded namespace beats host network',
    pod: { namespace: 'kube-system', hostNetwork: true },
    expected: 'excludedNamespace',
  },
  {
    name: 'nothing is excluded when the operator says so',
    pod: { namespace: 'kube-system' },
    namespace: AMBIENT,
    settings: eligibilitySettings([]),
    expected: 'eligible',
  },
  {
    name: 'a namespace of a list with blanks',
    pod: { namespace: 'storage' },
    namespace: AMBIENT,
    settings: eligibilitySettings([' kube-system', ' storage ', '']),
    expected: 'excludedNamespace',
  },
  {
    name: 'a selector of the operator that matches',
    pod: { labels: { team: 'payments' } },
    settings: eligibilitySettings([], [{ podSelector: { matchLabels: { team: 'payments' } } }]),
    expected: 'eligible',
  },
  {
    name: 'selectors of the operator replace the defaults',
    namespace: AMBIENT,
    settings: eligibilitySettings([], [{ podSelector: { matchLabels: { team: 'payments' } } }]),
    expected: 'notSelected',
  },
  {
    name: 'both selectors of a pair have to match',
    pod: { labels: { team: 'payments' } },
    settings: eligibilitySettings(
      [],
      [{ podSelector: { matchLabels: { team: 'payments' } }, namespaceSelector: { matchLabels: AMBIENT } }],
    ),
    expected: 'notSelected',
  },
];

describe('eligibility', () => {
  for (const { name, pod, namespace = {}, settings, expected } of ROWS) {
    it(`${name}: ${expected}`, () => {
      const whole = { namespace: 'demo', hostNetwork: false, labels: {}, annotations: {}, ...pod };
      const verdict = decideEligibility(whole, namespace, settings);
      assert.equal(verdict.kind === 'eligible' ? 'eligible' : verdict.reason, expected);
      assert.notEqual(verdict.detail, '');
    });
  }

  it('refuses selectors that can never be right', () => {
    const expression = { key: 'a', operator: 'In', values: [] } as const;
    assert.throws(() => eligibilitySettings([], [{ podSelector: { matchExpressions: [expression] } }]), {
      code: 'CONFIGURATION',
    });
  });
});

describe('label selectors', () => {
  const cases: readonly [string, Parameters<typeof matchesSelector>[0]['matchExpressions'], boolean][] = [
    ['In, present', [{ key: 'tier', operator: 'In', values: ['web', 'db'] }], true],
    ['In, other value', [{ key: 'tier', operator: 'In', values: ['db'] }], false],
    ['In, absent', [{ key: 'zone', operator: 'In', values: ['a'] }], false],
    ['NotIn, present', [{ key: 'tier', operator: 'NotIn', values: ['web'] }], false],
    ['NotIn, absent', [{ key: 'zone', operator: 'NotIn', values: ['a'] }], true],
    ['Exists', [{ key: 'tier', operator: 'Exists' }], true],
    ['Exists, absent', [{ key: 'zone', operator: 'Exists' }], false],
    ['DoesNotExist', [{ key: 'tier', operator: 'DoesNotExist' }], false],
    ['a key every object inherits', [{ key: 'constructor', operator: 'Exists' }], false],
    [
      'all of several',
      [
        { key: 'tier', operator: 'Exists' },
        { key: 'zone', operator: 'Exists' },
      ],
      false,
    ],
  ];
  for (const [name, matchExpressions, expected] of cases) {
    it(`${name}: ${expected}`, () => {
      assert.equal(matchesSelector({ matchExpressions: matchExpressions ?? [] }, { tier: 'web' }), expected);
    });
  }
  it('an empty selector matches everything', () => assert.ok(matchesSelector({}, {})));
});
