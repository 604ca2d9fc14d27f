/**
 * What the dry-run policies of a destination would have said about one connection: for the operator who tries a policy
 * before enforcing it. Pure. Each policy is looked at by itself, whatever the enforced ones decide (`authorize.ts`); the
 * ALLOW policies on trial are looked at together too, for enforced they would refuse what none of them matches.
 */
import type { MeshState } from '../state/mesh-state.ts';
import type { Policy } from '../state/policy.ts';
import type { Workload } from '../state/workload.ts';
import type { ConnectionFacts } from './authorize.ts';
import { policyMatches, Subject } from './match.ts';

export interface DryRunFinding {
  readonly action: Policy['action'];
  /** False only for ALLOW: there are such policies on trial and none matches. */
  readonly matched: boolean;
  /** Keys: of the one that matched, else of all that did not. */
  readonly policies: readonly string[];
}

const NOTHING: readonly DryRunFinding[] = [];

/** @param local the destination workload. Costs nothing worth mentioning when no dry-run policy applies to it. */
export function judgeDryRuns(state: MeshState, local: Workload, facts: ConnectionFacts): readonly DryRunFinding[] {
  if (!state.hasDryRunPolicies) return NOTHING;
  const candidates = candidatesFor(state, local);
  if (candidates.length === 0) return NOTHING;
  const subject = new Subject(facts);
  const findings: DryRunFinding[] = [];
  const unmatchedAllows: string[] = [];
  for (const policy of candidates) {
    const { action, key } = policy;
    if (policyMatches(policy, subject)) findings.push({ action, matched: true, policies: [key] });
    else if (action === 'ALLOW') unmatchedAllows.push(key);
  }
  const allowed = findings.some(({ action }) => action === 'ALLOW');
  if (unmatchedAllows.length > 0 && !allowed)
    findings.push({ action: 'ALLOW', matched: false, policies: unmatchedAllows });
  return findings;
}

/** Global ones, those of the namespace, those the workload names; each once. */
function candidatesFor(state: MeshState, local: Workload): readonly Policy[] {
  const global = state.globalPolicies.dryRun;
  const namespace = state.namespacePolicies(local.namespace).dryRun;
  const found = global.length === 0 ? namespace : [...global, ...namespace];
  let named: Policy[] | undefined;
  for (const key of local.authorizationPolicies) {
    const policy = state.findPolicy(key);
    if (policy?.dryRun !== true || found.includes(policy) || named?.includes(policy)) continue;
    named ??= [];
    named.push(policy);
  }
  return named === undefined ? found : [...found, ...named];
}
