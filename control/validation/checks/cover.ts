/**
 * Which connections a rule matches, compared without any connection: `covers(a, b)` is true only when every connection
 * that b matches is matched by a too; `isImpossible` only when no connection can match. Both may miss cases, never err.
 */
import { type CidrBlock, cidrContains } from '../../../core/ip.ts';
import type { L4Match, MatchTerm, PolicyRule } from '../../objects/authorization-policy.ts';
import type { ServiceAccountName, TextMatch } from '../../objects/match-values.ts';

/** Every connection of `b` is one of `a`. L7 attributes of `b` only narrow it; those of `a` make the answer false. */
export function ruleCovers(a: PolicyRule, b: PolicyRule): boolean {
  return a.clauses.every((wide) => b.clauses.some((narrow) => clauseCovers(wide, narrow)));
}

function clauseCovers(wide: readonly MatchTerm[], narrow: readonly MatchTerm[]): boolean {
  return narrow.every((term) => wide.some((other) => termCovers(other, term)));
}

function termCovers(a: MatchTerm, b: MatchTerm): boolean {
  if (a.l7.length > 0) return false;
  return (
    kindCovers(a.l4.namespaces, a.l4.notNamespaces, b.l4.namespaces, b.l4.notNamespaces, textCovers) &&
    kindCovers(a.l4.principals, a.l4.notPrincipals, b.l4.principals, b.l4.notPrincipals, textCovers) &&
    kindCovers(a.l4.sourceIps, a.l4.notSourceIps, b.l4.sourceIps, b.l4.notSourceIps, blockCovers) &&
    kindCovers(a.l4.destinationIps, a.l4.notDestinationIps, b.l4.destinationIps, b.l4.notDestinationIps, blockCovers) &&
    kindCovers(
      a.l4.destinationPorts,
      a.l4.notDestinationPorts,
      b.l4.destinationPorts,
      b.l4.notDestinationPorts,
      same,
    ) &&
    kindCovers(
      a.l4.serviceAccounts,
      a.l4.notServiceAccounts,
      b.l4.serviceAccounts,
      b.l4.notServiceAccounts,
      sameAccount,
    )
  );
}

/** One attribute: positive lists are alternatives, of negative ones none may hold. */
function kindCovers<T>(
  wanted: readonly T[] | undefined,
  unwanted: readonly T[] | undefined,
  narrowWanted: readonly T[] | undefined,
  narrowUnwanted: readonly T[] | undefined,
  covers: (a: T, b: T) => boolean,
): boolean {
  const admits =
    wanted === undefined || narrowWanted?.every((value) => wanted.some((other) => covers(other, value))) === true;
  const excludes = (unwanted ?? []).every((value) => (narrowUnwanted ?? []).some((other) => covers(other, value)));
  return admits && excludes;
}

/** True when a clause of the rule can hold for no connection. */
export function impossibleClause(rule: PolicyRule): readonly MatchTerm[] | undefined {
  return rule.clauses.find((clause) => clause.length > 0 && clause.every(({ l4 }) => isImpossible(l4)));
}

/** Every wanted value of some attribute is unwanted too. */
function isImpossible(l4: L4Match): boolean {
  return (
    excluded(l4.namespaces, l4.notNamespaces, textCovers) ||
    excluded(l4.principals, l4.notPrincipals, textCovers) ||
    excluded(l4.sourceIps, l4.notSourceIps, blockCovers) ||
    excluded(l4.destinationIps, l4.notDestinationIps, blockCovers) ||
    excluded(l4.destinationPorts, l4.notDestinationPorts, same) ||
    excluded(l4.serviceAccounts, l4.notServiceAccounts, sameAccount)
  );
}

function excluded<T>(
  wanted: readonly T[] | undefined,
  unwanted: readonly T[] | undefined,
  covers: (a: T, b: T) => boolean,
): boolean {
  if (wanted === undefined || unwanted === undefined) return false;
  return wanted.every((value) => unwanted.some((other) => covers(other, value)));
}

/** Two clauses of a rule ask for ports of which none is in both: `to` and a `when`. */
export function disjointPorts(rule: PolicyRule): MatchTerm | undefined {
  let possible: ReadonlySet<number> | undefined;
  for (const clause of rule.clauses) {
    const ports = new Set<number>();
    for (const { l4 } of clause) for (const port of l4.destinationPorts ?? []) ports.add(port);
    if (ports.size === 0 || clause.some(({ l4 }) => l4.destinationPorts === undefined)) continue;
    possible = possible === undefined ? ports : possible.intersection(ports);
    if (possible.size === 0) return clause[0];
  }
  return undefined;
}

function textCovers(a: TextMatch, b: TextMatch): boolean {
  if (a.kind === 'presence') return b.kind === 'presence' || b.value !== '';
  if (b.kind === 'presence') return false;
  switch (a.kind) {
    case 'exact':
      return b.kind === 'exact' && a.value === b.value;
    case 'prefix':
      return b.kind !== 'suffix' && b.value.startsWith(a.value);
    case 'suffix':
      return b.kind !== 'prefix' && b.value.endsWith(a.value);
  }
}

function blockCovers(a: CidrBlock, b: CidrBlock): boolean {
  return a.bytes.length === b.bytes.length && a.prefixLength <= b.prefixLength && cidrContains(a, b.bytes);
}

function same(a: number, b: number): boolean {
  return a === b;
}

/** An empty namespace is that of the policy; both sides are of one policy, or written out by the caller. */
function sameAccount(a: ServiceAccountName, b: ServiceAccountName): boolean {
  return a.namespace === b.namespace && a.name === b.name;
}
