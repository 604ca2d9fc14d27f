/** AMB0105, AMB0106, AMB0112: rules that can never match, that a DENY undoes, and that another rule covers. */
import type { AuthorizationPolicy, PolicyRule } from '../../objects/authorization-policy.ts';
import { describeObject, type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { disjointPorts, impossibleClause, ruleCovers } from './cover.ts';
import { keyOf } from './keys.ts';

export function* checkRules(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  const object = keyOf(policy);
  // A DENY that never matches protects nothing; an ALLOW merely allows nothing.
  const severity = policy.action === 'DENY' ? 'error' : 'warning';
  for (const [index, rule] of policy.rules.entries()) {
    const field = `rules[${index}]`;
    const impossible = impossibleClause(rule)?.[0] ?? disjointPorts(rule);
    if (impossible !== undefined) {
      const message = 'can never match: what it asks for, it also excludes';
      yield finding('AMB0105', { object, field: impossible.field }, message, { severity });
      continue;
    }
    const wider = policy.rules.findIndex(
      (other, at) => at !== index && ruleCovers(other, rule) && (at < index || !ruleCovers(rule, other)),
    );
    if (wider >= 0) yield finding('AMB0112', { object, field }, `is covered by rules[${wider}]`);
  }
  if (policy.action === 'ALLOW') yield* checkShadowed(policy, view);
}

function* checkShadowed(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  if (policy.targets.length > 0 || policy.dryRun || policy.rules.length === 0) return;
  const denies = [...deniesOver(policy, view)];
  const shadows = policy.rules.map((rule) =>
    denies.find((deny) => deny.rules.some((wide) => ruleCovers(qualified(wide, deny), qualified(rule, policy)))),
  );
  for (const [index, deny] of shadows.entries()) {
    if (deny === undefined) continue;
    const all = shadows.every((other) => other !== undefined);
    const message = `is denied in full by ${describeObject(keyOf(deny))}${all ? ', and so is every other rule of the policy' : ''}`;
    yield finding('AMB0106', { object: keyOf(policy), field: `rules[${index}]` }, message);
    if (all) return;
  }
}

/** DENY policies in force for every workload that `policy` is for. */
function* deniesOver(policy: AuthorizationPolicy, view: AnalysisView): Iterable<AuthorizationPolicy> {
  const { rootNamespace } = view.settings;
  for (const namespace of new Set([policy.meta.namespace, rootNamespace])) {
    for (const deny of view.objects.inNamespace('AuthorizationPolicy', namespace)) {
      if (deny.action !== 'DENY' || deny.dryRun || deny.targets.length > 0 || deny.standsInFor !== undefined) continue;
      if (policy.meta.namespace === rootNamespace && namespace !== rootNamespace) continue;
      const wider = [...(deny.selector ?? [])].every(([key, value]) => policy.selector?.get(key) === value);
      if (wider) yield deny;
    }
  }
}

/** Service accounts without a namespace are of that of their policy. */
function qualified(rule: PolicyRule, { meta }: AuthorizationPolicy): PolicyRule {
  const accounts = (names: PolicyRule['clauses'][number][number]['l4']['serviceAccounts']) =>
    names?.map((account) => (account.namespace === '' ? { ...account, namespace: meta.namespace } : account));
  return {
    clauses: rule.clauses.map((clause) =>
      clause.map((term) => ({
        ...term,
        l4: {
          ...term.l4,
          serviceAccounts: accounts(term.l4.serviceAccounts),
          notServiceAccounts: accounts(term.l4.notServiceAccounts),
        },
      })),
    ),
  };
}
