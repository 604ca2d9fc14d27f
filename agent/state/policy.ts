/**
 * An L4 authorization policy, decoded and ready to evaluate (`agent/route/match.ts` does). Strings are compared as they
 * are; principals carry the `spiffe://` scheme where the comparison is from the start, so that evaluation needs no
 * substring of the peer's identity.
 */
import type { CidrBlock } from '../../core/ip.ts';

export interface Policy {
  /** `<namespace>/<name>`, as in `Workload.authorizationPolicies` and in verdicts. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly scope: PolicyScope;
  readonly action: 'ALLOW' | 'DENY';
  /** Evaluated and reported, never enforced. */
  readonly dryRun: boolean;
  /** Matches when any rule does; without rules it never matches. */
  readonly rules: readonly PolicyRule[];
}

export type PolicyScope = 'GLOBAL' | 'NAMESPACE' | 'WORKLOAD_SELECTOR';

/** Matches when all clauses do; without clauses it always matches. */
export interface PolicyRule {
  readonly clauses: readonly PolicyClause[];
}

/** Matches when any match does; without matches it matches. */
export interface PolicyClause {
  readonly matches: readonly PolicyMatch[];
}

/** All kinds must agree: any of the positive list (empty agrees), none of the negative one. */
export interface PolicyMatch {
  /** True when no field is set at all: such a match never matches. */
  readonly empty: boolean;
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly sourceIps: readonly CidrBlock[];
  readonly notSourceIps: readonly CidrBlock[];
  readonly destinationIps: readonly CidrBlock[];
  readonly notDestinationIps: readonly CidrBlock[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly value: string }
  | { readonly kind: 'presence' };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

export function policyKey(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}
