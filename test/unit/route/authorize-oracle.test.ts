import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { authorize } from '../../../agent/route/authorize.ts';
import {
  Action,
  type Authorization,
  AuthorizationSchema,
  type Address as Block,
  type Match,
  type MatchSchema,
  Scope,
  type StringMatch,
} from '../../../api/gen/istio/security/authorization_pb.js';
import { getIp, type IpAddress, ipToBytes } from '../../../core/ip.ts';
import { formatSpiffeId, parseSpiffeId, type SpiffeId } from '../../../core/spiffe.ts';
import { getWorkload, meshOf, policy, workload } from '../../support/mesh-resources.ts';

/*
 * A second implementation of the rules, written from their description over the protobuf messages and as plainly as
 * possible, against which the real one is compared on random policies. Values come from small sets so that they meet.
 */

interface Facts {
  readonly source: SpiffeId | undefined;
  readonly sourceIp: IpAddress;
  readonly destinationIp: IpAddress;
  readonly destinationPort: number;
}

function bits(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
}

function oracleString(match: StringMatch, value: string): boolean {
  const { matchType } = match;
  if (matchType.case === 'exact') return value === matchType.value;
  if (matchType.case === 'prefix') return value.slice(0, matchType.value.length) === matchType.value;
  if (matchType.case === 'suffix')
    return (
      value.length >= matchType.value.length && value.slice(value.length - matchType.value.length) === matchType.value
    );
  return value.length > 0;
}

function oracleMatch(match: Match, facts: Facts): boolean {
  const parts = facts.source === undefined ? undefined : parseSpiffeId(facts.source);
  const principal = facts.source?.replace('spiffe://', '');
  const kinds: [boolean[], boolean[]][] = [];
  const kind = <Value>(wanted: readonly Value[], unwanted: readonly Value[], holds: (value: Value) => boolean) =>
    kinds.push([wanted.map(holds), unwanted.map(holds)]);
  const inBlock = (ip: IpAddress) => (block: Block) =>
    ipToBytes(ip).length === block.address.length &&
    bits(ipToBytes(ip)).slice(0, block.length) === bits(block.address).slice(0, block.length);
  kind(match.namespaces, match.notNamespaces, (value) => oracleString(value, parts?.namespace ?? ''));
  kind(match.principals, match.notPrincipals, (value) => principal !== undefined && oracleString(value, principal));
  kind(
    match.serviceAccounts,
    match.notServiceAccounts,
    (value) => parts?.namespace === value.namespace && parts.serviceAccount === value.serviceAccount,
  );
  kind(match.sourceIps, match.notSourceIps, inBlock(facts.sourceIp));
  kind(match.destinationIps, match.notDestinationIps, inBlock(facts.destinationIp));
  kind(match.destinationPorts, match.notDestinationPorts, (port) => port === facts.destinationPort);
  const says = kinds.some(([wanted, unwanted]) => wanted.length + unwanted.length > 0);
  return (
    says &&
    kinds.every(([wanted, unwanted]) => (wanted.length === 0 || wanted.includes(true)) && !unwanted.includes(true))
  );
}

function oraclePolicy(authorization: Authorization, facts: Facts): boolean {
  return authorization.groups.some((group) =>
    group.rules.every(
      (clause) => clause.matches.length === 0 || clause.matches.some((match) => oracleMatch(match, facts)),
    ),
  );
}

function oracle(all: readonly Authorization[], named: readonly string[], namespace: string, facts: Facts): string {
  const keyOf = ({ namespace: ns, name }: Authorization) => `${ns}/${name}`;
  const candidates = all.filter(
    (one) =>
      !one.dryRun &&
      (one.scope === Scope.GLOBAL ||
        (one.scope === Scope.NAMESPACE && one.namespace === namespace) ||
        named.includes(keyOf(one))),
  );
  const ofAction = (action: Action) => candidates.filter((one) => one.action === action);
  if (ofAction(Action.DENY).some((one) => oraclePolicy(one, facts))) return 'POLICY_DENIED';
  if (named.some((key) => !all.some((one) => keyOf(one) === key))) return 'POLICY_UNKNOWN';
  const allows = ofAction(Action.ALLOW);
  return allows.length === 0 || allows.some((one) => oraclePolicy(one, facts)) ? 'allow' : 'POLICY_DENIED';
}

const word = fc.constantFrom('a', 'b', 'ab', 'ba', 'abc');
const text = fc.oneof(
  word,
  fc.constantFrom('', 'td/ns/a/sa/b', 'td/ns/', '/sa/b', 'spiffe://td/ns/a/sa/b', 'e://td/ns/a/sa/b'),
);
const ips = fc
  .constantFrom('10.0.0.1', '10.0.0.2', '10.128.0.1', '11.0.0.1', '2001:db8::1', '2001:db8:8000::1')
  .map(getIp);
const ports = fc.constantFrom(80, 443, 8080);

const stringMatch = fc.oneof(
  text.map((value) => ({ matchType: { case: 'exact', value } as const })),
  text.map((value) => ({ matchType: { case: 'prefix', value } as const })),
  text.map((value) => ({ matchType: { case: 'suffix', value } as const })),
  fc.constant({ matchType: { case: 'presence', value: {} } as const }),
);
const block = ips.chain((ip) => {
  const address = ipToBytes(ip);
  return fc.integer({ min: 0, max: address.length * 8 }).map((length) => ({ address, length }));
});
const serviceAccount = fc.record({ namespace: word, serviceAccount: word });

/** Mostly absent, so that a match is about one or two kinds and sometimes about none. */
function some<Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<Value[]> {
  return fc.oneof(
    { weight: 4, arbitrary: fc.constant<Value[]>([]) },
    { weight: 1, arbitrary: fc.array(value, { maxLength: 3 }) },
  );
}

const match: fc.Arbitrary<MessageInitShape<typeof MatchSchema>> = fc.record({
  namespaces: some(stringMatch),
  notNamespaces: some(stringMatch),
  principals: some(stringMatch),
  notPrincipals: some(stringMatch),
  serviceAccounts: some(serviceAccount),
  notServiceAccounts: some(serviceAccount),
  sourceIps: some(block),
  notSourceIps: some(block),
  destinationIps: some(block),
  notDestinationIps: some(block),
  destinationPorts: some(ports),
  notDestinationPorts: some(ports),
});
const clause = fc.record({ matches: fc.array(match, { maxLength: 3 }) });
const group = fc.record({ rules: fc.array(clause, { maxLength: 3 }) });
const authorization = fc.record({
  name: fc.constantFrom('p', 'q', 'r'),
  namespace: fc.constantFrom('default', 'other'),
  scope: fc.constantFrom(Scope.GLOBAL, Scope.NAMESPACE, Scope.WORKLOAD_SELECTOR),
  action: fc.constantFrom(Action.ALLOW, Action.DENY),
  dryRun: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  groups: fc.array(group, { maxLength: 3 }),
});
const facts: fc.Arbitrary<Facts> = fc.record({
  source: fc.option(
    fc
      .record({ trustDomain: fc.constantFrom('td', 'other'), namespace: word, serviceAccount: word })
      .map(formatSpiffeId),
    { nil: undefined, freq: 3 },
  ),
  sourceIp: ips,
  destinationIp: ips,
  destinationPort: ports,
});

test('authorization agrees with its description on random policies and connections', () => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(
      fc.uniqueArray(authorization, { maxLength: 4, selector: ({ namespace, name }) => `${namespace}/${name}` }),
      fc.uniqueArray(fc.constantFrom('default/p', 'default/q', 'other/p', 'other/r'), { maxLength: 2 }),
      fc.array(facts, { minLength: 1, maxLength: 4 }),
      (policies, named, connections) => {
        const state = meshOf(
          workload('server', { ips: ['10.0.0.2'], authorizationPolicies: named }),
          ...policies.map(({ name, ...fields }) => policy(name, fields)),
        );
        const messages = policies.map((fields) => create(AuthorizationSchema, fields));
        for (const connection of connections) {
          const verdict = authorize(state, getWorkload(state, 'server'), connection);
          const found = verdict.kind === 'allow' ? 'allow' : verdict.error.code;
          assert.equal(found, oracle(messages, named, 'default', connection));
          seen.set(found, (seen.get(found) ?? 0) + 1);
        }
      },
    ),
    { numRuns: 3000 },
  );
  for (const outcome of ['allow', 'POLICY_DENIED', 'POLICY_UNKNOWN'])
    assert.ok((seen.get(outcome) ?? 0) > 100, `the random cases hardly ever lead to ${outcome}`);
});
