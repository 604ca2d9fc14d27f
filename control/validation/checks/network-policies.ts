/** AMB0203, AMB0206, AMB0207: NetworkPolicies that stand in the way of tunnels, with the companion that opens it. */
import { stringify } from 'yaml';
import { matchesSelector } from '../../../core/enrolment/label-selector.ts';
import { HBONE_PORT } from '../../../core/ports.ts';
import { type Finding, finding } from '../finding.ts';
import type { NetworkPolicy, NetworkPolicyRule } from '../network-policy.ts';
import type { AnalysisView, Workload } from '../view.ts';
import { keyOf } from './keys.ts';

type Direction = 'ingress' | 'egress';

/** Policies of a namespace act together: what one admits, no other takes away. */
export function* checkNetworkPolicies(view: AnalysisView): Iterable<Finding> {
  for (const [namespace, policies] of Map.groupBy(view.networkPolicies, ({ meta }) => meta.namespace)) {
    const workloads = enrolledIn(namespace, view);
    for (const direction of ['ingress', 'egress'] as const) yield* checkDirection(direction, policies, workloads);
  }
}

/** Of every owner the first: its pods are alike. */
function enrolledIn(namespace: string, view: AnalysisView): readonly Workload[] {
  const first = new Map<string, Workload>();
  for (const workload of view.workloadsIn(namespace)) {
    if (!first.has(workload.owner) && view.isEnrolled(workload)) first.set(workload.owner, workload);
  }
  return [...first.values()];
}

function* checkDirection(
  direction: Direction,
  policies: readonly NetworkPolicy[],
  workloads: readonly Workload[],
): Iterable<Finding> {
  const blocked = new Map<NetworkPolicy, number>();
  const open = new Set<NetworkPolicy>();
  for (const workload of workloads) {
    const labels = Object.fromEntries(workload.labels);
    const selecting = policies.filter(({ podSelector }) => matchesSelector(podSelector, labels));
    const admitted = selecting.some((policy) => policy[direction]?.some(admitsTunnels) ?? false);
    for (const policy of selecting) {
      if (policy[direction]?.some(restrictsPorts) !== true) continue;
      if (admitted) open.add(policy);
      else blocked.set(policy, (blocked.get(policy) ?? 0) + 1);
    }
  }
  for (const [policy, count] of blocked) yield blockedFinding(policy, direction, count);
  if (direction === 'egress') return;
  for (const policy of open) if (!blocked.has(policy)) yield openFinding(policy);
}

function blockedFinding(policy: NetworkPolicy, direction: Direction, workloads: number): Finding {
  const at = { object: keyOf(policy), field: `spec.${direction}` };
  const message = `blocks TCP ${HBONE_PORT} ${direction === 'ingress' ? 'to' : 'from'} ${workloads} enrolled ${workloads === 1 ? 'workload' : 'workloads'}`;
  return finding(direction === 'ingress' ? 'AMB0203' : 'AMB0206', at, message, {
    companion: companion(policy, direction),
  });
}

function openFinding(policy: NetworkPolicy): Finding {
  const message = `its ports do not bind clients that come through port ${HBONE_PORT}`;
  return finding('AMB0207', { object: keyOf(policy), field: 'spec.ingress' }, message);
}

/** A rule that lets TCP in, but only on some ports. A rule without TCP is not about what tunnels carry. */
function restrictsPorts({ ports }: NetworkPolicyRule): boolean {
  return ports.some(({ protocol, port }) => protocol === 'TCP' && port !== undefined);
}

function admitsTunnels({ ports }: NetworkPolicyRule): boolean {
  return (
    ports.length === 0 ||
    ports.some(({ protocol, port, endPort }) => {
      if (protocol !== 'TCP') return false;
      if (typeof port === 'string') return false;
      return port === undefined || (port <= HBONE_PORT && HBONE_PORT <= (endPort ?? port));
    })
  );
}

/** The same pods and the same peers, port 15008. */
function companion(policy: NetworkPolicy, direction: Direction): string {
  const peers = direction === 'ingress' ? 'from' : 'to';
  const rules = (policy[direction] ?? []).filter(restrictsPorts).map((rule) => ({
    ...(rule.peers === undefined ? {} : { [peers]: rule.peers }),
    ports: [{ protocol: 'TCP', port: HBONE_PORT }],
  }));
  const { matchLabels = {}, matchExpressions = [] } = policy.podSelector;
  return stringify({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: `${policy.meta.name}-tunnels-${direction}`, namespace: policy.meta.namespace },
    spec: {
      podSelector: {
        ...(Object.keys(matchLabels).length === 0 ? {} : { matchLabels }),
        ...(matchExpressions.length === 0 ? {} : { matchExpressions }),
      },
      policyTypes: [direction === 'ingress' ? 'Ingress' : 'Egress'],
      [direction]: rules,
    },
  });
}
