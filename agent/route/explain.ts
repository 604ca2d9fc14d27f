/** Why a connection is allowed or refused: the verdict of `authorize` with every policy that was looked at. */
import type { MeshState } from '../state/mesh-state.ts';
import type { Policy, PolicyScope } from '../state/policy.ts';
import type { Workload } from '../state/workload.ts';
import { authorize, type ConnectionFacts, type Verdict } from './authorize.ts';
import { policyMatches, Subject } from './match.ts';

export interface PolicyFinding {
  /** `<namespace>/<name>`. */
  readonly policy: string;
  readonly action: Policy['action'];
  readonly scope: PolicyScope;
  readonly dryRun: boolean;
  readonly matched: boolean;
  /** True for the one policy the verdict names. */
  readonly decisive: boolean;
}

export interface Explanation {
  readonly verdict: Verdict;
  /** DENY before ALLOW, dry runs last, by key within. */
  readonly findings: readonly PolicyFinding[];
  /** Keys the workload names that no known policy has. */
  readonly unknownPolicies: readonly string[];
}

export function explain(state: MeshState, local: Workload, facts: ConnectionFacts): Explanation {
  const verdict = authorize(state, local, facts);
  const subject = new Subject(facts);
  const findings = state.policiesFor(local).map((policy) => ({
    policy: policy.key,
    action: policy.action,
    scope: policy.scope,
    dryRun: policy.dryRun,
    matched: policyMatches(policy, subject),
    decisive: policy.key === verdict.policy,
  }));
  findings.sort((a, b) => order(a) - order(b) || (a.policy < b.policy ? -1 : 1));
  const unknownPolicies = local.authorizationPolicies.filter((key) => state.findPolicy(key) === undefined);
  return { verdict, findings, unknownPolicies };
}

function order(finding: PolicyFinding): number {
  return (finding.dryRun ? 2 : 0) + (finding.action === 'DENY' ? 0 : 1);
}
