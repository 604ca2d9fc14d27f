/** AuthorizationPolicy to istio.security.Authorization: scopes, every attribute, and what agents cannot check. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Action,
  type Authorization,
  type Match,
  Scope,
  type StringMatch,
} from '../../../api/gen/istio/security/authorization_pb.js';
import { convertAuthorizationPolicy } from '../../../control/policy/authorization.ts';
import type { TargetState } from '../../../control/policy/targets.ts';
import { objectOf, problemsOf } from '../../support/control.ts';

function policyYaml(spec: string, namespace = 'shop', annotations = '{}'): string {
  const metadata = `{name: p, namespace: ${namespace}, annotations: ${annotations}}`;
  return `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: ${metadata}\nspec: ${spec}\n`;
}

function convert(
  spec: string,
  namespace?: string,
  annotations?: string,
): ReturnType<typeof convertAuthorizationPolicy> {
  return convertAuthorizationPolicy(
    objectOf('AuthorizationPolicy', policyYaml(spec, namespace, annotations)),
    'istio-system',
  );
}

function text(match: StringMatch): string {
  const { matchType } = match;
  if (matchType.case === 'presence') return '*';
  if (matchType.case === 'prefix') return `${matchType.value}*`;
  return matchType.case === 'suffix' ? `*${matchType.value}` : (matchType.value ?? '?');
}

function show(match: Match): string {
  const address = ({ address, length }: { address: Uint8Array; length: number }): string =>
    `${[...address].join('.')}/${length}`;
  const account = (name: { namespace: string; serviceAccount: string }): string =>
    `${name.namespace}/${name.serviceAccount}`;
  const fields: [string, readonly string[]][] = [
    ['ns', match.namespaces.map(text)],
    ['!ns', match.notNamespaces.map(text)],
    ['id', match.principals.map(text)],
    ['!id', match.notPrincipals.map(text)],
    ['src', match.sourceIps.map(address)],
    ['!src', match.notSourceIps.map(address)],
    ['dst', match.destinationIps.map(address)],
    ['!dst', match.notDestinationIps.map(address)],
    ['port', match.destinationPorts.map(String)],
    ['!port', match.notDestinationPorts.map(String)],
    ['sa', match.serviceAccounts.map(account)],
    ['!sa', match.notServiceAccounts.map(account)],
  ];
  return fields
    .filter(([, values]) => values.length > 0)
    .map(([name, values]) => `${name}=${values.join(',')}`)
    .join(' ');
}

/** Groups as `[clause & clause]`, a clause as `match | match`. */
function rules(authorization: Authorization | undefined): string {
  if (authorization === undefined) return 'not sent';
  return authorization.groups
    .map((group) => `[${group.rules.map((rule) => rule.matches.map(show).join(' | ')).join(' & ')}]`)
    .join(' ');
}

const CASES: [name: string, spec: string, expected: string, reason: string][] = [
  ['an empty policy allows nothing', '{}', '', 'Accepted'],
  ['a rule without conditions allows everything', '{rules: [{}]}', '[]', 'Accepted'],
  [
    'every attribute of a source has its place',
    '{rules: [{from: [{source: {principals: ["cluster.local/ns/a/sa/b", "cluster.local/*", "*/sa/c", "*"], notPrincipals: [x], namespaces: [a], notNamespaces: ["b*"], ipBlocks: [10.1.2.3, 10.0.0.0/8], notIpBlocks: ["fd00::/8"]}}]}]}',
    '[ns=a !ns=b* id=cluster.local/ns/a/sa/b,cluster.local/*,*/sa/c,* !id=x src=10.1.2.3/32,10.0.0.0/8 !src=253.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0/8]',
    'Accepted',
  ],
  [
    'service accounts default to the namespace of the policy',
    '{rules: [{from: [{source: {serviceAccounts: [web, other/api], notServiceAccounts: [evil/x]}}]}]}',
    '[sa=shop/web,other/api !sa=evil/x]',
    'Accepted',
  ],
  [
    'sources are alternatives, from, to and when must all hold',
    '{rules: [{from: [{source: {namespaces: [a]}}, {source: {namespaces: [b]}}], to: [{operation: {ports: ["80"], notPorts: ["81"]}}], when: [{key: destination.port, values: ["80"]}, {key: source.namespace, notValues: [c]}]}]}',
    '[ns=a | ns=b & port=80 !port=81 & port=80 & !ns=c]',
    'Accepted',
  ],
  [
    'every key of when that agents know',
    '{rules: [{when: [{key: source.ip, values: [1.2.3.4]}, {key: source.namespace, values: [a]}, {key: source.principal, values: [b], notValues: [c]}, {key: destination.ip, notValues: [5.6.7.8/24]}, {key: destination.port, values: ["1"]}]}]}',
    '[src=1.2.3.4/32 & ns=a & id=b !id=c & !dst=5.6.7.0/24 & port=1]',
    'Accepted',
  ],
  [
    'ALLOW: a rule with an L7 attribute is left out as a whole',
    '{rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {methods: [GET]}}]}, {from: [{source: {namespaces: [b]}}]}]}',
    '[ns=b]',
    'PartiallyInvalid',
  ],
  ['ALLOW: nothing left allows nothing', '{rules: [{to: [{operation: {paths: [/a]}}]}]}', '', 'UnsupportedValue'],
  [
    'ALLOW: an L7 attribute beside an L4 one in the same source',
    '{rules: [{from: [{source: {namespaces: [a], requestPrincipals: ["*"]}}]}]}',
    '',
    'UnsupportedValue',
  ],
  [
    'ALLOW: an L7 condition',
    '{rules: [{from: [{source: {namespaces: [a]}}], when: [{key: "request.headers[x]", values: [y]}]}]}',
    '',
    'UnsupportedValue',
  ],
  [
    'DENY: the L4 remainder of a term stays',
    '{action: DENY, rules: [{to: [{operation: {ports: ["80"], methods: [GET]}}]}]}',
    '[port=80]',
    'PartiallyInvalid',
  ],
  [
    'DENY: a clause of L7 attributes alone matches always, so the rule is no no-op',
    '{action: DENY, rules: [{from: [{source: {principals: [x]}}], to: [{operation: {paths: [/a]}}]}]}',
    '[id=x]',
    'PartiallyInvalid',
  ],
  [
    'DENY: one alternative of L7 alone makes its clause match always',
    '{action: DENY, rules: [{from: [{source: {principals: [x]}}], to: [{operation: {ports: ["80"]}}, {operation: {paths: [/a]}}]}]}',
    '[id=x]',
    'PartiallyInvalid',
  ],
  [
    'DENY: a rule of L7 alone denies everything',
    '{action: DENY, rules: [{to: [{operation: {hosts: [a]}}]}]}',
    '[]',
    'PartiallyInvalid',
  ],
  [
    'DENY: an L7 condition matches always, also negated',
    '{action: DENY, rules: [{from: [{source: {namespaces: [a]}}], when: [{key: "request.auth.claims[x]", notValues: [y]}, {key: remote.ip, values: [1.2.3.4]}]}]}',
    '[ns=a]',
    'PartiallyInvalid',
  ],
  [
    'DENY: L7 negations are left out too',
    '{action: DENY, rules: [{to: [{operation: {ports: ["80"], notMethods: [GET], notPaths: [/a], notHosts: [b]}}]}]}',
    '[port=80]',
    'PartiallyInvalid',
  ],
  ['AUDIT is not sent', '{action: AUDIT, rules: [{}]}', 'not sent', 'UnsupportedValue'],
  ['CUSTOM is not sent', '{action: CUSTOM, provider: {name: x}, rules: [{}]}', 'not sent', 'UnsupportedValue'],
  [
    'a policy with targetRefs is not sent',
    '{targetRefs: [{kind: Service, group: "", name: a}], rules: [{}]}',
    'not sent',
    'AncestorNotBound',
  ],
  [
    'a policy with targetRef is not sent',
    '{targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: a}}',
    'not sent',
    'AncestorNotBound',
  ],
];

for (const [name, spec, expected, reason] of CASES) {
  test(name, () => {
    const { authorization, condition } = convert(spec);
    assert.equal(rules(authorization), expected);
    assert.equal(condition.reason, reason);
  });
}

test('the scope follows selector and namespace', () => {
  assert.equal(convert('{}').authorization?.scope, Scope.NAMESPACE);
  assert.equal(convert('{}', 'istio-system').authorization?.scope, Scope.GLOBAL);
  const selector = '{selector: {matchLabels: {app: a}}}';
  assert.equal(convert(selector).authorization?.scope, Scope.WORKLOAD_SELECTOR);
  assert.equal(convert(selector, 'istio-system').authorization?.scope, Scope.WORKLOAD_SELECTOR);
  assert.equal(convert('{selector: {matchLabels: {}}}').authorization?.scope, Scope.NAMESPACE);
});

test('the action is ALLOW by default, and a dry run is marked', () => {
  assert.equal(convert('{}').authorization?.action, Action.ALLOW);
  assert.equal(convert('{action: DENY}').authorization?.action, Action.DENY);
  assert.equal(convert('{}').authorization?.dryRun, false);
  assert.equal(convert('{}', 'shop', '{istio.io/dry-run: "true"}').authorization?.dryRun, true);
});

test('the condition names the attributes that agents cannot check', () => {
  const { condition } = convert('{action: DENY, rules: [{to: [{operation: {methods: [GET], paths: [/a]}}]}]}');
  assert.match(condition.message, /methods, paths/);
});

test('the condition says by whom a policy is enforced', () => {
  const web = '{selector: {matchLabels: {app: web}}}';
  const cases: [spec: string, namespace: string, annotations: string, message: string][] = [
    ['{}', 'shop', '{}', 'Enforced by the agents of all workloads of namespace shop.'],
    ['{}', 'istio-system', '{}', 'Enforced by the agents of all workloads of the mesh.'],
    [web, 'shop', '{}', 'Enforced by the agents of workloads with app=web in namespace shop.'],
    [web, 'istio-system', '{}', 'Enforced by the agents of workloads with app=web in the mesh.'],
    [
      '{}',
      'shop',
      '{istio.io/dry-run: "true"}',
      'On trial (istio.io/dry-run): agents of all workloads of namespace shop log and count it, nothing is enforced.',
    ],
  ];
  for (const [spec, namespace, annotations, message] of cases) {
    const { condition } = convert(spec, namespace, annotations);
    assert.deepEqual(condition, { type: 'ZtunnelAccepted', status: 'True', reason: 'Accepted', message });
  }
});

test('of several targets the condition names those that are enforced and those that are not', () => {
  const policy = objectOf(
    'AuthorizationPolicy',
    policyYaml('{targetRefs: [{kind: Service, name: a}, {kind: Service, name: b}, {kind: Service, name: c}]}'),
  );
  const states: Record<string, TargetState> = {
    a: { kind: 'bound', by: 'shop/wp' },
    b: { kind: 'missing' },
    c: { kind: 'unbound', reason: 'has no waypoint' },
  };
  const describe = (known: Record<string, TargetState>) =>
    convertAuthorizationPolicy(policy, 'istio-system', ({ name }) => known[name] ?? { kind: 'unknown' }).condition;
  assert.deepEqual(describe(states), {
    type: 'WaypointAccepted',
    status: 'True',
    reason: 'PartiallyInvalid',
    message:
      'Enforced by shop/wp for Service shop/a. Not enforced: Service shop/b does not exist; Service shop/c has no waypoint.',
  });
  assert.equal(describe({ ...states, a: { kind: 'missing' } }).reason, 'TargetNotFound');
  assert.equal(describe({}).status, 'False', 'what nobody looked at is not said to be enforced');
  const bound: TargetState = { kind: 'bound', by: 'shop/wp' };
  assert.equal(describe({ a: bound, b: bound, c: bound }).reason, 'Accepted');
});

const REFUSED: [name: string, spec: string, reason: RegExp][] = [
  ['an unknown field', '{rule: []}', /spec\.rule is not a field/],
  ['a misspelt restriction', '{rules: [{from: [{source: {princpals: [a]}}]}]}', /princpals is not a field/],
  [
    'a value that is no IP block',
    '{rules: [{from: [{source: {ipBlocks: [10.0.0.300]}}]}]}',
    /ipBlocks\[0\] must be an IP address/,
  ],
  [
    'a prefix that is too long',
    '{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}',
    /must be an IP address or a CIDR/,
  ],
  ['a port out of range', '{rules: [{to: [{operation: {ports: ["70000"]}}]}]}', /quoted port number/],
  ['a port that is no number', '{rules: [{to: [{operation: {ports: [http]}}]}]}', /quoted port number/],
  ['an empty list', '{rules: [{from: [{source: {namespaces: []}}]}]}', /must not be an empty list/],
  ['an empty source', '{rules: [{from: [{source: {}}]}]}', /at least one attribute/],
  ['an empty from', '{rules: [{from: []}]}', /must not be an empty list/],
  ['a wildcard in the middle', '{rules: [{from: [{source: {namespaces: ["a*b"]}}]}]}', /one \* at its start or end/],
  [
    'a principal with a scheme',
    '{rules: [{from: [{source: {principals: ["spiffe://a/ns/b/sa/c"]}}]}]}',
    /without spiffe/,
  ],
  ['a service account with a wildcard', '{rules: [{from: [{source: {serviceAccounts: ["a/*"]}}]}]}', /without \*/],
  [
    'service accounts beside principals',
    '{rules: [{from: [{source: {serviceAccounts: [a], principals: [b]}}]}]}',
    /must not stand beside/,
  ],
  ['an unknown condition', '{rules: [{when: [{key: source.color, values: [red]}]}]}', /not a known attribute/],
  ['a condition without values', '{rules: [{when: [{key: source.ip}]}]}', /needs values or notValues/],
  ['a condition with a wrong value', '{rules: [{when: [{key: source.ip, values: [x]}]}]}', /values\[0\] must be an IP/],
  [
    'selector beside targetRefs',
    '{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]}',
    /must not stand beside targetRefs/,
  ],
  ['an unknown action', '{action: deny}', /must be one of ALLOW, DENY, AUDIT, CUSTOM/],
  ['CUSTOM without a provider', '{action: CUSTOM}', /needs a provider/],
  ['a wildcard in the selector', '{selector: {matchLabels: {app: "a*"}}}', /wildcards do not work/],
];

for (const [name, spec, reason] of REFUSED) {
  test(`refused: ${name}`, () => {
    const problems = problemsOf(policyYaml(spec));
    assert.equal(problems.length, 1, problems.join('; '));
    assert.match(problems[0] ?? '', reason);
  });
}
