/**
 * All checks over a view, or those of one object: `ambit analyze` and the webhook ask the same. Pure. A check is a
 * function of one object and the view; the table says which belong to which kind.
 */
import type { MeshObject, ObjectKind } from '../objects/object.ts';
import type { Check } from './check.ts';
import { AUTHORIZATION_CHECKS } from './checks/authorization.ts';
import { SERVICE_ENTRY_CHECKS, WORKLOAD_ENTRY_CHECKS } from './checks/entries.ts';
import { checkNamespaceLabels, checkUselessLabels, checkWaypointFor, checkWorkloadLabels } from './checks/labels.ts';
import { checkNetworkPolicies } from './checks/network-policies.ts';
import { PEER_AUTHENTICATION_CHECKS } from './checks/peer-authentication.ts';
import { SERVICE_CHECKS } from './checks/services.ts';
import { checkWaypointReference } from './checks/waypoints.ts';
import type { Finding, Severity } from './finding.ts';
import type { AnalysisView, ObjectOf } from './view.ts';

interface Row {
  readonly kind: ObjectKind;
  readonly run: (object: MeshObject, view: AnalysisView) => Iterable<Finding>;
}

const ROWS: readonly Row[] = [
  row('Namespace', [checkNamespaceLabels, checkWaypointReference]),
  row('Service', [...SERVICE_CHECKS, checkWaypointReference, checkUselessLabels]),
  row('ServiceAccount', [checkUselessLabels]),
  row('Gateway', [checkUselessLabels, checkWaypointFor]),
  row('GatewayClass', [checkWaypointFor]),
  row('AuthorizationPolicy', [...AUTHORIZATION_CHECKS, checkUselessLabels]),
  row('PeerAuthentication', [...PEER_AUTHENTICATION_CHECKS, checkUselessLabels]),
  row('ServiceEntry', [...SERVICE_ENTRY_CHECKS, checkWaypointReference, checkUselessLabels]),
  row('WorkloadEntry', [...WORKLOAD_ENTRY_CHECKS, checkWaypointReference]),
];

const ORDER: Readonly<Record<Severity, number>> = { error: 0, warning: 1, info: 2 };

/** What can be said about one object, which need not be part of the view. */
export function analyzeObject(object: MeshObject, view: AnalysisView): Finding[] {
  return sorted(ROWS.flatMap(({ run }) => [...run(object, view)]));
}

/** Everything that can be said about the view, worst first, then by object. */
export function analyze(view: AnalysisView): Finding[] {
  const findings: Finding[] = [...workloadFindings(view), ...checkNetworkPolicies(view)];
  for (const { kind, run } of ROWS) {
    for (const object of view.objects.all(kind)) findings.push(...run(object, view));
  }
  return sorted(findings);
}

export function sorted(findings: readonly Finding[]): Finding[] {
  return findings.toSorted(
    (a, b) =>
      ORDER[a.severity] - ORDER[b.severity] ||
      compare(a.object, b.object) ||
      compare(a.code, b.code) ||
      compare(a.field, b.field),
  );
}

/** Pods of one owner are alike: the first speaks for all. */
function* workloadFindings(view: AnalysisView): Iterable<Finding> {
  const seen = new Set<string>();
  for (const workload of view.allWorkloads()) {
    if (seen.has(workload.owner)) continue;
    seen.add(workload.owner);
    yield* checkWorkloadLabels(workload);
    const { kind, namespace, name, labels, annotations } = workload;
    const meta = { namespace, name, labels, annotations, owner: undefined };
    yield* checkWaypointReference({ kind, meta }, view);
  }
}

function row<K extends ObjectKind>(kind: K, checks: readonly Check<K>[]): Row {
  return {
    kind,
    *run(object, view) {
      if (isKind(object, kind)) for (const check of checks) yield* check(object, view);
    },
  };
}

function isKind<K extends ObjectKind>(object: MeshObject, kind: K): object is ObjectOf<K> {
  return object.kind === kind;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
