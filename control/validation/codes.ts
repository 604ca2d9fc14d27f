/**
 * The closed table of the codes of `ambit analyze` and the webhook. Codes are stable: a number is never used again.
 * docs/ANALYSIS.md is generated from this table.
 *
 * 01xx AuthorizationPolicy · 02xx network and enrolment · 03xx PeerAuthentication · 04xx services, entries, waypoints
 */
import type { Severity } from './finding.ts';

export interface FindingRow {
  readonly severity: Severity;
  readonly title: string;
  /** What happens at run time; a clause without a full stop. */
  readonly effect: string;
  /** How to correct it; a sentence. */
  readonly fix: string;
  /**
   * True: the webhook refuses an object with such an error. False where the answer lies in other objects, which may come
   * a moment later: there it warns.
   */
  readonly refused: boolean;
}

function row(severity: Severity, title: string, effect: string, fix: string): FindingRow {
  return { severity, title, effect, fix, refused: false };
}

function refusedRow(title: string, effect: string, fix: string): FindingRow {
  return { severity: 'error', title, effect, fix, refused: true };
}

export const FINDING_TABLE = {
  AMB0101: refusedRow(
    'an object cannot be read',
    'its last good version stays in use; a policy that never had one denies everything it could be for',
    'Correct the field.',
  ),
  AMB0102: row(
    'warning',
    'a selector matches no workload',
    'the policy is in force for nobody',
    'Compare matchLabels with the labels of the pods: kubectl get pods --show-labels.',
  ),
  AMB0103: row(
    'warning',
    'a principal or service account does not exist',
    'no client can prove this identity, so the value never matches',
    'Correct the name or create the service account.',
  ),
  AMB0104: refusedRow(
    'a principal is of another trust domain',
    'no client of this mesh can prove this identity, so the value never matches',
    'Write the trust domain of the mesh, or * in its place; serviceAccounts need no trust domain at all.',
  ),
  AMB0105: refusedRow('a rule can never match', 'the rule does nothing', 'Remove the contradiction or the rule.'),
  AMB0106: row(
    'error',
    'an ALLOW is denied by a DENY in full',
    'what the rule allows is denied all the same: DENY policies are judged first',
    'Narrow the DENY policy or remove the ALLOW rule.',
  ),
  AMB0107: refusedRow(
    'an ALLOW rule with L7 attributes has no waypoint to check it',
    'at L4 this ALLOW rule would allow nothing',
    'Bind the policy to a waypoint with targetRefs, or write the rule with ports, identities and addresses.',
  ),
  AMB0108: refusedRow(
    'a DENY rule with L7 attributes has no waypoint to check it',
    'at L4 it would deny regardless of them, which is more than is written',
    'Bind the policy to a waypoint with targetRefs, or write the rule with ports, identities and addresses.',
  ),
  AMB0109: refusedRow(
    'no enforcement point honours the action',
    'nothing of the policy would be in force',
    'Use ALLOW or DENY, or bind the policy to a waypoint with targetRefs.',
  ),
  AMB0110: row(
    'warning',
    'a targetRef leads to nothing',
    'the policy is in force for nobody until the target exists',
    'Correct the name, or create the target in the namespace of the policy.',
  ),
  AMB0111: row(
    'error',
    'a targetRef has no waypoint in front of it',
    'nothing enforces the policy: traffic reaches the target without it',
    'Bind the target to a waypoint (label istio.io/use-waypoint), or use a selector and L4 attributes.',
  ),
  AMB0112: row(
    'info',
    'a rule is covered by another rule of the policy',
    'the rule changes nothing',
    'Remove one of the two.',
  ),
  AMB0113: row(
    'warning',
    'a policy is for pods that are not in the mesh',
    'no agent sees their traffic, so nothing is enforced for them',
    'Label the namespace or the pods istio.io/dataplane-mode=ambient.',
  ),
  AMB0114: row(
    'info',
    'a policy is on trial',
    'agents log and count what it would decide; nothing is enforced',
    'Remove the annotation istio.io/dry-run to put it in force.',
  ),
  AMB0115: row(
    'warning',
    'a rule names a port that no selected workload serves under that number',
    'policies see the port of the workload, not the port of the service; the rule never matches',
    'Write the targetPort.',
  ),
  AMB0116: row(
    'warning',
    'a DENY policy has no rules',
    'it denies nothing',
    'Write rules: [{}] to deny everything, or remove the policy.',
  ),
  AMB0117: row(
    'warning',
    'an identity is wanted from clients that have none',
    'clients outside the mesh come in plaintext without an identity and never match',
    'Enrol the namespace of the clients, or name their addresses with ipBlocks.',
  ),
  AMB0201: row(
    'error',
    'the label istio.io/dataplane-mode is misspelt or has an unknown value',
    'the pods are not in the mesh: plaintext, no identity, no policy',
    'Write istio.io/dataplane-mode=ambient (or none) on the Namespace or the Pod.',
  ),
  AMB0202: row(
    'warning',
    'the label istio.io/dataplane-mode is on an object where it does nothing',
    'nothing is enrolled by it',
    'Put it on the Namespace, or on the labels of the pod template.',
  ),
  AMB0203: row(
    'error',
    'a NetworkPolicy blocks port 15008 of enrolled pods',
    'tunnels of other mesh workloads cannot reach the pods: their connections time out',
    'Apply the companion policy, or add TCP 15008 to the ports of the NetworkPolicy.',
  ),
  AMB0204: row(
    'warning',
    'sidecar injection and ambient mode are both asked for',
    'pods that get a sidecar are not enrolled; which of the two happens depends on who comes first',
    'Remove one of the labels: istio-injection or sidecar.istio.io/inject, or istio.io/dataplane-mode.',
  ),
  AMB0205: row(
    'warning',
    'a pod in the host network is labelled for the mesh',
    'it is not enrolled: it shares the addresses of its node, so its traffic cannot be told apart',
    'Remove the label or hostNetwork.',
  ),
  AMB0206: row(
    'warning',
    'a NetworkPolicy blocks port 15008 on the way out of enrolled pods',
    'their tunnels to other mesh workloads cannot be opened: connections time out',
    'Apply the companion policy, or add TCP 15008 to the egress ports of the NetworkPolicy.',
  ),
  AMB0207: row(
    'info',
    'ports of a NetworkPolicy do not restrict clients of the mesh',
    'once 15008 is open, tunnels carry every port: the ports of the NetworkPolicy bind plaintext clients only',
    'Say the same with an AuthorizationPolicy (operation.ports).',
  ),
  AMB0301: row(
    'warning',
    'a PeerAuthentication with a selector stands in the root namespace',
    'it selects nothing',
    'Move it to the namespace of the workloads.',
  ),
  AMB0302: refusedRow(
    'portLevelMtls stands without a selector',
    'the object is refused; no port gets a mode of its own',
    'Add selector.matchLabels for the workloads that the ports belong to.',
  ),
  AMB0303: row(
    'warning',
    'several PeerAuthentications are for the same workloads',
    'only the oldest one counts',
    'Merge them into one object.',
  ),
  AMB0304: row(
    'info',
    'STRICT meets workloads that are not in the mesh',
    'their plaintext connections to these workloads are refused',
    'Enrol them, or open a port with portLevelMtls: PERMISSIVE.',
  ),
  AMB0305: row(
    'info',
    'mode DISABLE counts as PERMISSIVE',
    'agents accept plaintext and mTLS alike; tunnels between mesh workloads stay encrypted',
    'Write PERMISSIVE to say what happens.',
  ),
  AMB0306: row(
    'warning',
    'portLevelMtls names a port that is a service port, not a port of the workload',
    'the mode applies to a port nobody listens on',
    'Write the targetPort.',
  ),
  AMB0401: row(
    'warning',
    'a Service selector matches no workload',
    'the service has no endpoint: connections to it are refused',
    'Compare spec.selector with the labels of the pods.',
  ),
  AMB0402: row(
    'error',
    'istio.io/use-waypoint names a waypoint that does not exist',
    'the L7 policies and routes bound to it are not in force',
    'Create the waypoint, correct the label, or write istio.io/use-waypoint=none.',
  ),
  AMB0403: row(
    'warning',
    'a waypoint is not ready',
    'it has no address yet, so nothing can be sent through it',
    'Wait until it is programmed; see kubectl describe gateway.',
  ),
  AMB0404: row(
    'error',
    'a waypoint does not admit the namespace that refers to it',
    'the reference is refused (AttachmentDenied): traffic does not pass the waypoint',
    "Set allowedRoutes.namespaces of the waypoint's HBONE listener to All, or a Selector that matches.",
  ),
  AMB0405: row(
    'warning',
    'a waypoint does not serve this type of traffic',
    'the reference is refused (UnsupportedTrafficType): traffic does not pass the waypoint',
    'Set istio.io/waypoint-for on the Gateway to service, workload or all.',
  ),
  AMB0406: row(
    'warning',
    'a ServiceEntry has no address and none is allocated',
    'only clients that resolve the name by themselves reach it, and policies by service do not apply',
    'Set spec.addresses, or remove the label networking.istio.io/enable-autoallocate-ip=false.',
  ),
  AMB0407: row(
    'error',
    'resolution and endpoints of a ServiceEntry do not fit each other',
    'the service has no usable endpoint',
    'STATIC needs endpoints with addresses or a workloadSelector; DNS needs hosts without * or endpoints with names.',
  ),
  AMB0408: row(
    'warning',
    'a WorkloadEntry leads nowhere',
    'no service selects it or its address cannot be used: nobody reaches it',
    'Give it an address and the labels that a ServiceEntry or Service selects.',
  ),
  AMB0410: row(
    'warning',
    'a canary waypoint is not used',
    'every connection goes through the first waypoint',
    'Correct the labels istio.io/use-waypoint-canary and -canary-namespace or the annotation with its weight.',
  ),
  AMB0411: row(
    'warning',
    'istio.io/waypoint-for has an unknown value',
    'the waypoint takes traffic to services, as if nothing were said',
    'Write service, workload, all or none.',
  ),
  AMB0409: row(
    'warning',
    'a waypoint label stands on an object where it does nothing',
    'it is not read',
    'istio.io/use-waypoint: Namespace, Service, ServiceEntry, Pod. istio.io/waypoint-for: Gateway, GatewayClass.',
  ),
} as const satisfies Record<`AMB${number}`, FindingRow>;

export type FindingCode = keyof typeof FINDING_TABLE;
