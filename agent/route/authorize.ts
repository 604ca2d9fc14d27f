/**
 * L4 authorization of one connection at its destination: pure, on the state as it is now, so that running it again for
 * a live connection uses the current workload and the current policies.
 *
 * Candidates are the policies of the destination's namespace, the global ones and those the workload names. An enforced
 * DENY that matches refuses. A named policy that has not arrived refuses too, for it may be a DENY. Then, if there is
 * any enforced ALLOW, one must match. Dry runs never change a verdict (dry-run.ts).
 *
 * `POLICY_UNKNOWN` passes by itself when policy and workload updates arrive in an unlucky order; whoever re-evaluates
 * live connections should give it a moment before ending them.
 */
import { AmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Policy } from '../state/policy.ts';
import type { PolicySet } from '../state/policy-index.ts';
import type { Workload } from '../state/workload.ts';
import { policyMatches, Subject } from './match.ts';

/** What a policy can look at. */
export interface ConnectionFacts {
  /** The proven identity of the client; undefined for plaintext. */
  readonly source: SpiffeId | undefined;
  readonly sourceIp: IpAddress;
  /** The final address at the workload, after every mapping. */
  readonly destinationIp: IpAddress;
  readonly destinationPort: number;
}

export type Verdict =
  /** `policy` is the key of the ALLOW policy that matched; undefined when none is enforced for the workload. */
  | { readonly kind: 'allow'; readonly policy: string | undefined }
  /** `policy` is the key of the DENY that matched or of the missing one; undefined when no ALLOW matched. */
  | { readonly kind: 'deny'; readonly error: AmbitError; readonly policy: string | undefined };

const ALLOWED_BY_DEFAULT: Verdict = { kind: 'allow', policy: undefined };

/** @param local the destination workload */
export function authorize(state: MeshState, local: Workload, facts: ConnectionFacts): Verdict {
  const subject = new Subject(facts);
  const global = state.globalPolicies;
  const namespace = state.namespacePolicies(local.namespace);

  const denial =
    firstMatch(global.deny, subject) ??
    firstMatch(namespace.deny, subject) ??
    namedMatch(state, local, 'DENY', subject);
  if (denial !== undefined) return deny('POLICY_DENIED', `explicitly denied by: ${denial.key}`, denial.key);

  const missing = firstUnknown(state, local);
  if (missing !== undefined) return deny('POLICY_UNKNOWN', `the policy ${missing} has not arrived yet`, missing);

  const permission =
    firstMatch(global.allow, subject) ??
    firstMatch(namespace.allow, subject) ??
    namedMatch(state, local, 'ALLOW', subject);
  if (permission !== undefined) return { kind: 'allow', policy: permission.key };
  return hasAllow(state, local, global, namespace)
    ? deny('POLICY_DENIED', 'allow policies exist, but none allowed', undefined)
    : ALLOWED_BY_DEFAULT;
}

function firstMatch(policies: readonly Policy[], subject: Subject): Policy | undefined {
  for (let i = 0; i < policies.length; i++) {
    const policy = policies[i];
    if (policy !== undefined && policyMatches(policy, subject)) return policy;
  }
  return undefined;
}

function namedMatch(state: MeshState, local: Workload, action: Policy['action'], subject: Subject): Policy | undefined {
  const keys = local.authorizationPolicies;
  for (let i = 0; i < keys.length; i++) {
    const policy = state.findPolicy(keys[i] ?? '');
    if (policy !== undefined && policy.action === action && !policy.dryRun && policyMatches(policy, subject))
      return policy;
  }
  return undefined;
}

function firstUnknown(state: MeshState, local: Workload): string | undefined {
  const keys = local.authorizationPolicies;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? '';
    if (state.findPolicy(key) === undefined) return key;
  }
  return undefined;
}

function hasAllow(state: MeshState, local: Workload, global: PolicySet, namespace: PolicySet): boolean {
  if (global.allow.length > 0 || namespace.allow.length > 0) return true;
  for (const key of local.authorizationPolicies) {
    const policy = state.findPolicy(key);
    if (policy?.action === 'ALLOW' && !policy.dryRun) return true;
  }
  return false;
}

function deny(code: 'POLICY_DENIED' | 'POLICY_UNKNOWN', detail: string, policy: string | undefined): Verdict {
  return { kind: 'deny', error: new AmbitError(code, detail), policy };
}
