/** Which nodes the agent's DaemonSet wants; what is not understood keeps the agent's things on the node. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { selectsNode } from '../../../agent/install/owner.ts';

const LABELS = { 'kubernetes.io/os': 'linux', pool: 'a' };

function required(...terms: unknown[]): unknown {
  return {
    affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } },
  };
}

const CASES: readonly [string, unknown, boolean][] = [
  ['no wish at all', {}, true],
  ['a spec that is none', 'x', true],
  ['the wanted label', { nodeSelector: { pool: 'a' } }, true],
  ['another label', { nodeSelector: { pool: 'b' } }, false],
  ['a label the node lacks', { nodeSelector: { gpu: 'yes' } }, false],
  [
    'an affinity that holds',
    required({ matchExpressions: [{ key: 'pool', operator: 'In', values: ['a', 'b'] }] }),
    true,
  ],
  [
    'an affinity that does not hold',
    required({ matchExpressions: [{ key: 'pool', operator: 'NotIn', values: ['a'] }] }),
    false,
  ],
  [
    'one of two terms',
    required(
      { matchExpressions: [{ key: 'pool', operator: 'In', values: ['x'] }] },
      { matchExpressions: [{ key: 'pool', operator: 'Exists' }] },
    ),
    true,
  ],
  ['the name of the node', required({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] }), true],
  ['another name', required({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n2'] }] }), false],
  [
    'an operator that is not understood',
    required({ matchExpressions: [{ key: 'cpus', operator: 'Gt', values: ['4'] }] }),
    true,
  ],
];

for (const [name, spec, expected] of CASES) {
  test(`the DaemonSet ${expected ? 'wants' : 'does not want'} a node with ${name}`, () => {
    assert.equal(selectsNode(spec, LABELS, 'n1'), expected);
  });
}
