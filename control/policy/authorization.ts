/**
 * AuthorizationPolicy -> istio.security.Authorization. Pure.
 *
 * Agents see L4 only. What they cannot check never widens a policy and never turns it into nothing: an ALLOW rule with
 * an L7 attribute is left out (it would allow more than it says); in a DENY rule the L7 attribute is left out, so that
 * the rest denies more than it says, and a clause that consists of L7 attributes alone matches always. Both are told
 * in the condition.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  Action,
  type Authorization,
  AuthorizationSchema,
  type GroupSchema,
  type MatchSchema,
  type ServiceAccountMatchSchema,
  type StringMatchSchema,
} from '../../api/gen/istio/security/authorization_pb.js';
import type { CidrBlock } from '../../core/ip.ts';
import type { AuthorizationPolicy, L4Match, MatchTerm, PolicyRule } from '../objects/authorization-policy.ts';
import type { ServiceAccountName, TextMatch } from '../objects/match-values.ts';
import { accepted, type PolicyCondition, partly, refused } from './condition.ts';
import { describeScope, scopeOf } from './scope.ts';
import { describeTargets, type TargetLookup } from './targets.ts';

type GroupInit = MessageInitShape<typeof GroupSchema>;
type MatchInit = MessageInitShape<typeof MatchSchema>;
type StringMatchInit = MessageInitShape<typeof StringMatchSchema>;

export interface ConvertedPolicy {
  /** Undefined when agents get nothing of the policy. */
  readonly authorization: Authorization | undefined;
  readonly condition: PolicyCondition;
}

/**
 * @param rootNamespace a policy there without a selector is for the whole mesh
 * @param targets what is known of the targets of policies with targetRefs
 */
export function convertAuthorizationPolicy(
  policy: AuthorizationPolicy,
  rootNamespace: string,
  targets: TargetLookup = () => ({ kind: 'unknown' }),
): ConvertedPolicy {
  if (policy.targets.length > 0) return notSent(describeTargets(policy, targets));
  if (policy.action === 'AUDIT' || policy.action === 'CUSTOM') {
    const message = `Agents do not enforce action ${policy.action}: nothing of the policy is in force. Attach it to a waypoint with targetRefs.`;
    return notSent(refused('UnsupportedValue', message));
  }
  const leftOut = new Set<string>();
  const groups = policy.rules.flatMap((rule) => convertRule(rule, policy, leftOut));
  const authorization = create(AuthorizationSchema, {
    name: policy.meta.name,
    namespace: policy.meta.namespace,
    scope: scopeOf(policy, rootNamespace),
    action: policy.action === 'DENY' ? Action.DENY : Action.ALLOW,
    groups,
    dryRun: policy.dryRun,
  });
  return { authorization, condition: describe(policy, groups.length, leftOut, rootNamespace) };
}

function notSent(condition: PolicyCondition): ConvertedPolicy {
  return { authorization: undefined, condition };
}

function describe(
  policy: AuthorizationPolicy,
  groups: number,
  leftOut: ReadonlySet<string>,
  rootNamespace: string,
): PolicyCondition {
  const scope = describeScope(policy, rootNamespace);
  if (policy.standsInFor !== undefined) {
    const stand = policy.action === 'ALLOW' ? 'it allows nothing' : 'everything is denied';
    return refused('Invalid', `${policy.standsInFor}. Until it is corrected, ${stand} to ${scope}.`);
  }
  const point = policy.dryRun
    ? `On trial (istio.io/dry-run): agents of ${scope} log and count it, nothing is enforced.`
    : `Enforced by the agents of ${scope}.`;
  if (leftOut.size === 0) return accepted(point);
  const names = [...leftOut].sort().join(', ');
  if (policy.action === 'DENY') {
    return partly(
      `${point} Agents cannot check ${names}: the rules deny regardless of them, which is stricter than written. Attach the policy to a waypoint with targetRefs.`,
    );
  }
  if (groups === 0) {
    const message = `Agents cannot check ${names}: no rule is left, so the policy allows nothing to ${scope}. Attach it to a waypoint with targetRefs.`;
    return refused('UnsupportedValue', message);
  }
  return partly(
    `${point} Agents cannot check ${names}: rules that use them allow nothing, the other rules are in force. Attach the policy to a waypoint with targetRefs.`,
  );
}

/** One group, or none when the rule is an ALLOW that agents cannot check in full. */
function convertRule(rule: PolicyRule, policy: AuthorizationPolicy, leftOut: Set<string>): GroupInit[] {
  const l7 = rule.clauses.flatMap((clause) => clause.flatMap((term) => term.l7));
  for (const name of l7) leftOut.add(name);
  if (l7.length > 0 && policy.action !== 'DENY') return [];
  const clauses = rule.clauses.filter((clause) => !clause.some(isOnlyL7));
  const rules = clauses.map((clause) => ({
    matches: clause.map((term) => convertMatch(term.l4, policy.meta.namespace)),
  }));
  return [{ rules }];
}

/** Terms of a clause are alternatives: one that agents must take as always true makes the whole clause true. */
function isOnlyL7(term: MatchTerm): boolean {
  return term.l7.length > 0 && Object.values(term.l4).every((values) => values === undefined);
}

function convertMatch(l4: L4Match, policyNamespace: string): MatchInit {
  return {
    namespaces: strings(l4.namespaces),
    notNamespaces: strings(l4.notNamespaces),
    principals: strings(l4.principals),
    notPrincipals: strings(l4.notPrincipals),
    sourceIps: addresses(l4.sourceIps),
    notSourceIps: addresses(l4.notSourceIps),
    destinationIps: addresses(l4.destinationIps),
    notDestinationIps: addresses(l4.notDestinationIps),
    destinationPorts: [...(l4.destinationPorts ?? [])],
    notDestinationPorts: [...(l4.notDestinationPorts ?? [])],
    serviceAccounts: accounts(l4.serviceAccounts, policyNamespace),
    notServiceAccounts: accounts(l4.notServiceAccounts, policyNamespace),
  };
}

function strings(matches: readonly TextMatch[] = []): StringMatchInit[] {
  return matches.map((match) =>
    match.kind === 'presence'
      ? { matchType: { case: 'presence', value: {} } }
      : { matchType: { case: match.kind, value: match.value } },
  );
}

function addresses(blocks: readonly CidrBlock[] = []): { address: Uint8Array; length: number }[] {
  return blocks.map((block) => ({ address: block.bytes, length: block.prefixLength }));
}

function accounts(
  names: readonly ServiceAccountName[] = [],
  policyNamespace: string,
): MessageInitShape<typeof ServiceAccountMatchSchema>[] {
  return names.map((account) => ({
    namespace: account.namespace === '' ? policyNamespace : account.namespace,
    serviceAccount: account.name,
  }));
}
