/** Comparing rules without connections: whatever is claimed holds for every random connection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { policyMatches, Subject } from '../../../agent/route/match.ts';
import { decodePolicy } from '../../../agent/state/decode-policy.ts';
import type { PolicyRule } from '../../../control/objects/authorization-policy.ts';
import { convertAuthorizationPolicy } from '../../../control/policy/authorization.ts';
import { disjointPorts, impossibleClause, ruleCovers } from '../../../control/validation/checks/cover.ts';
import { getIp } from '../../../core/ip.ts';
import { formatSpiffeId } from '../../../core/spiffe.ts';
import { objectOf } from '../../support/control.ts';

const few = (...values: string[]) => fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: 2 });
const texts = few('a', 'ab', 'a*', '*b', '*');
const source = fc
  .record(
    {
      namespaces: texts,
      notNamespaces: texts,
      principals: few('td/ns/a/sa/b', 'td/*', '*/sa/b', '*'),
      notPrincipals: few('td/ns/a/sa/b', '*'),
      ipBlocks: few('10.0.0.0/8', '10.0.0.0/24', '10.0.0.1'),
      notIpBlocks: few('10.0.0.0/24', '10.0.0.1'),
    },
    { requiredKeys: [] },
  )
  .filter((fields) => Object.keys(fields).length > 0)
  .map((fields) => ({ source: fields }));
const operation = fc
  .record({ ports: few('80', '81', '82'), notPorts: few('80', '81') }, { requiredKeys: [] })
  .filter((fields) => Object.keys(fields).length > 0)
  .map((fields) => ({ operation: fields }));
const rule = fc.record(
  {
    from: fc.array(source, { minLength: 1, maxLength: 2 }),
    to: fc.array(operation, { minLength: 1, maxLength: 2 }),
    when: fc.constantFrom(
      [{ key: 'destination.port', values: ['80'] }],
      [{ key: 'destination.port', values: ['81', '82'] }],
    ),
  },
  { requiredKeys: [] },
);
const connection = fc.record({
  source: fc.option(
    fc
      .record({
        trustDomain: fc.constant('td'),
        namespace: fc.constantFrom('a', 'ab', 'b'),
        serviceAccount: fc.constantFrom('b', 'c'),
      })
      .map(formatSpiffeId),
    { nil: undefined, freq: 4 },
  ),
  sourceIp: fc.constantFrom('10.0.0.1', '10.0.0.2', '10.1.0.1', '11.0.0.1').map(getIp),
  destinationIp: fc.constant(getIp('10.9.9.9')),
  destinationPort: fc.constantFrom(80, 81, 82),
});

function read(value: unknown): {
  rule: PolicyRule;
  matches: (facts: ConstructorParameters<typeof Subject>[0]) => boolean;
} {
  const policy = objectOf(
    'AuthorizationPolicy',
    JSON.stringify({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'p', namespace: 'shop' },
      spec: { rules: [value] },
    }),
  );
  const { authorization } = convertAuthorizationPolicy(policy, 'istio-system');
  const [first] = policy.rules;
  assert.ok(authorization && first);
  const decoded = decodePolicy(authorization);
  return { rule: first, matches: (facts) => policyMatches(decoded, new Subject(facts)) };
}

test('what one rule covers of another, and what can never match, holds for every connection', () => {
  const seen = { covers: 0, impossible: 0, disjoint: 0 };
  fc.assert(
    fc.property(rule, rule, fc.array(connection, { minLength: 8, maxLength: 8 }), (a, b, connections) => {
      const [wide, narrow] = [read(a), read(b)];
      const covers = ruleCovers(wide.rule, narrow.rule);
      const impossible = impossibleClause(narrow.rule) !== undefined;
      const disjoint = disjointPorts(narrow.rule) !== undefined;
      if (covers) seen.covers++;
      if (impossible) seen.impossible++;
      if (disjoint) seen.disjoint++;
      for (const facts of connections) {
        const matched = narrow.matches(facts);
        if (covers) assert.ok(!matched || wide.matches(facts), 'covered, and yet not matched');
        if (impossible || disjoint) assert.ok(!matched, 'impossible, and yet matched');
      }
      assert.ok(ruleCovers(narrow.rule, narrow.rule), 'a rule covers itself');
    }),
    { numRuns: 1500 },
  );
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 20, `${what}: only ${count}`);
});
