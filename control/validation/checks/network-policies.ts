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
  for (const direction of ['ingress', 'egress'] as const) {
    const blocked = new Map<NetworkPolicy, Set<string>>();
    const open = new Map<NetworkPolicy, Set<string>>();
    for (const policy of view.networkPolicies) {
      for (const workload of view.workloadsIn(policy.meta.namespace)) {
        if (!view.isEnrolled(workload) || !isFor(policy, workload) || policy[direction] === undefined) continue;
        if (!policy[direction].some(restrictsPorts)) continue;
        const others = view.networkPolicies.filter(
          (other) => other.meta.namespace === policy.meta.namespace && isFor(other, workload),
        );
        const admitted = others.some((other) => other[direction]?.some(admitsTunnels) ?? false);
        const found = admitted ? open : blocked;
        found.set(policy, (found.get(policy) ?? new Set()).add(workload.owner));
      }
    }
    for (const [policy, owners] of blocked) yield blockedFinding(policy, direction, owners.size);
    if (direction === 'ingress') for (const policy of open.keys()) if (!blocked.has(policy)) yield openFinding(policy);
  }
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

function isFor({ podSelector }: NetworkPolicy, { labels }: Workload): boolean {
  return matchesSelector(podSelector, Object.fromEntries(labels));
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
