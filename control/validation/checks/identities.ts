/** AMB0103, AMB0104, AMB0117: identities that nobody has. */
import type { AuthorizationPolicy, L4Match, MatchTerm } from '../../objects/authorization-policy.ts';
import type { TextMatch } from '../../objects/match-values.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { keyOf } from './keys.ts';

export function* checkIdentities(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  for (const rule of policy.rules) {
    for (const term of rule.clauses.flat()) {
      yield* checkTrustDomains(policy, term, view);
      yield* checkAccounts(policy, term, view);
      yield* checkNamespaces(policy, term, view);
    }
  }
}

/** The namespaces and service accounts that `l4` names in full. */
function namedAccounts(l4: L4Match, policy: AuthorizationPolicy): { namespace: string; name: string; text: string }[] {
  const accounts = [...(l4.serviceAccounts ?? []), ...(l4.notServiceAccounts ?? [])].map(({ namespace, name }) => ({
    namespace: namespace === '' ? policy.meta.namespace : namespace,
    name,
    text: namespace === '' ? name : `${namespace}/${name}`,
  }));
  for (const { kind, ...match } of [...(l4.principals ?? []), ...(l4.notPrincipals ?? [])]) {
    if (kind !== 'exact' || !('value' in match)) continue;
    const parts = /^[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(match.value);
    const [, namespace, name] = parts ?? [];
    if (namespace !== undefined && name !== undefined) accounts.push({ namespace, name, text: match.value });
  }
  return accounts;
}

function* checkAccounts(policy: AuthorizationPolicy, term: MatchTerm, view: AnalysisView): Iterable<Finding> {
  for (const { namespace, name, text } of namedAccounts(term.l4, policy)) {
    if (accountExists(namespace, name, view)) continue;
    const message = `${text}: there is no service account ${name} in namespace ${namespace}`;
    yield finding('AMB0103', { object: keyOf(policy), field: term.field }, message);
  }
}

/** Kubernetes makes `default` in every namespace; what a workload runs as counts as existing. */
function accountExists(namespace: string, name: string, view: AnalysisView): boolean {
  if (!view.knows('ServiceAccount') || view.objects.find('ServiceAccount', namespace, name) !== undefined) return true;
  if (name === 'default' && view.objects.find('Namespace', '', namespace) !== undefined) return true;
  const runs = view.workloadsIn(namespace).some(({ serviceAccount }) => serviceAccount === name);
  return runs || !view.knowsWorkloads;
}

/** A DENY that names a foreign domain protects nothing; an ALLOW merely allows nobody. */
function* checkTrustDomains(policy: AuthorizationPolicy, term: MatchTerm, view: AnalysisView): Iterable<Finding> {
  const { trustDomain } = view.settings;
  const severity = policy.action === 'DENY' ? 'error' : 'warning';
  for (const match of [...(term.l4.principals ?? []), ...(term.l4.notPrincipals ?? [])]) {
    const domain = trustDomainOf(match);
    if (domain === undefined || domain === trustDomain) continue;
    const message = `names trust domain ${domain}, but this mesh is ${trustDomain}`;
    yield finding('AMB0104', { object: keyOf(policy), field: term.field }, message, { severity });
  }
}

/** The domain where the value has one in full. */
function trustDomainOf(match: TextMatch): string | undefined {
  if (match.kind !== 'exact' && match.kind !== 'prefix') return undefined;
  const slash = match.value.indexOf('/');
  return slash < 0 ? undefined : match.value.slice(0, slash);
}

/** A namespace from which only plaintext can come: its clients have no identity and so no namespace either. */
function* checkNamespaces(policy: AuthorizationPolicy, term: MatchTerm, view: AnalysisView): Iterable<Finding> {
  const wanted = new Set<string>();
  for (const match of term.l4.namespaces ?? []) if (match.kind === 'exact') wanted.add(match.value);
  for (const { namespace } of namedAccounts({ ...term.l4, notPrincipals: [], notServiceAccounts: [] }, policy))
    wanted.add(namespace);
  for (const namespace of wanted) {
    const workloads = view.workloadsIn(namespace);
    if (workloads.length === 0 || workloads.some((workload) => speaksForItself(workload) || view.isEnrolled(workload)))
      continue;
    if (!view.knowsWorkloads) return;
    const message = `namespace ${namespace} has no workload in the mesh`;
    yield finding('AMB0117', { object: keyOf(policy), field: term.field }, message);
  }
}

/** Sidecars and gateways bring an identity of their own. */
function speaksForItself({
  labels,
  annotations,
}: {
  labels: ReadonlyMap<string, string>;
  annotations: ReadonlyMap<string, string>;
}): boolean {
  return annotations.has('sidecar.istio.io/status') || labels.has('networking.istio.io/tunnel');
}
