/** The state of the mesh as `ambit status` shows it, put together from the cluster, the agents and the control plane. */
import { describeObject } from '../../control/validation/finding.ts';
import { ENROLLED_CONDITION, REDIRECTION_ANNOTATION } from '../../core/enrolment/redirection.ts';
import type { KubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { agentPodOf, servingAgents } from '../agents.ts';
import { agentPods, eligiblePods } from '../check/agent-checks.ts';
import { agentDaemonSets, controlDeployments } from '../check/control-checks.ts';
import { annotationOf, conditionOf, labelOf, namespaceOf, numberAt, textAt } from '../check/fields.ts';
import type { CheckWorld } from '../check/world.ts';
import type { ProxyStatusRow } from '../proxy-status.ts';

export interface AgentStatus {
  readonly node: string;
  /** Empty where no agent runs on the node. */
  readonly pod: string;
  readonly ready: boolean;
  /** Of the agent, as it says itself; undefined when it does not answer. */
  readonly version: string | undefined;
  readonly captured: number;
  /** Known to the agent and not (yet) captured. */
  readonly pending: number;
  readonly memoryBytes: number | undefined;
  readonly inSync: boolean;
  /** What is not as it should be, in words. */
  readonly problem: string | undefined;
}

export interface NamespaceStatus {
  readonly name: string;
  /** Pods that the labels put into the mesh. */
  readonly pods: number;
  /** Those that are in it. */
  readonly captured: number;
}

export interface PolicyProblem {
  readonly code: string;
  /** `AuthorizationPolicy shop/x`. */
  readonly object: string;
  readonly severity: 'error' | 'warning';
  readonly message: string;
}

export interface MeshStatus {
  readonly namespace: string;
  readonly control: {
    readonly replicas: number;
    readonly available: number;
    readonly version: string;
    /** Pod that writes; empty where there is none. */
    readonly leader: string;
  };
  readonly agents: readonly AgentStatus[];
  readonly namespaces: readonly NamespaceStatus[];
  /** Not enforced as written. */
  readonly policies: readonly PolicyProblem[];
  /** Parts that could not be looked at, with the reason. */
  readonly unknown: readonly string[];
  /** Why this is not a healthy mesh, in words; empty when it is. Findings about policies are no reason. */
  readonly problems: readonly string[];
}

/** Rejects with KUBERNETES_API when the cluster cannot be reached; what else cannot be read is told in the result. */
export async function readStatus(world: CheckWorld): Promise<MeshStatus> {
  const unknown: string[] = [];
  const control = await readControl(world);
  const agents = await readAgents(world, unknown);
  const namespaces = await readNamespaces(world);
  const policies = await readPolicies(world, unknown);
  return {
    namespace: world.namespace,
    control,
    agents,
    namespaces,
    policies,
    unknown,
    problems: problemsOf(control, agents, namespaces, await rolloutProblems(world)),
  };
}

async function readControl(world: CheckWorld): Promise<MeshStatus['control']> {
  const deployments = await controlDeployments(world);
  const leases = (await world.list(RESOURCES.Lease, world.namespace)).filter(({ metadata }) =>
    metadata.name.startsWith('ambit-control'),
  );
  const sum = (...path: readonly string[]): number =>
    deployments.reduce((total, one) => total + numberAt(one, ...path), 0);
  const [deployment] = deployments;
  const holder = leases.map((lease) => textAt(lease, 'spec', 'holderIdentity')).find((one) => one !== '') ?? '';
  return {
    replicas: sum('spec', 'replicas'),
    available: sum('status', 'availableReplicas'),
    version: deployment === undefined ? '' : (labelOf(deployment, 'app.kubernetes.io/version') ?? ''),
    leader: holder.replace(/_.*$/, ''),
  };
}

async function readAgents(world: CheckWorld, unknown: string[]): Promise<AgentStatus[]> {
  const [{ reports, failures }, rows, pods, nodes] = await Promise.all([
    world.nodeReports(),
    world.proxyStatus().catch((error: unknown): readonly ProxyStatusRow[] => {
      unknown.push(`discovery: ${error instanceof Error ? error.message : String(error)}`);
      return [];
    }),
    agentPods(world),
    world.nodes(),
  ]);
  const byNode = new Map(servingAgents(pods).map((agent) => [agent.node, agent]));
  return nodes.map(({ metadata: { name: node } }) => {
    const agent = byNode.get(node);
    const report = reports.find((one) => one.agent.node === node)?.report;
    const failure = failures.find((one) => one.agent.node === node)?.problem;
    const captured = report?.pods.filter(({ state }) => state === 'enrolled').length ?? 0;
    const row = rows.find((one) => one.proxy.startsWith(`${agent?.name}.`));
    return {
      node,
      pod: agent?.name ?? '',
      ready: agent?.ready ?? false,
      version: report?.version,
      captured,
      pending: (report?.pods.length ?? 0) - captured,
      memoryBytes: report?.memoryBytes,
      inSync: row === undefined ? report?.xds?.connected === true && report.xds.synced !== undefined : row.synced,
      problem: agent === undefined ? 'no agent' : (failure ?? report?.problems[0]),
    };
  });
}

/** Namespaces in which a pod belongs in the mesh or is in it. */
async function readNamespaces(world: CheckWorld): Promise<NamespaceStatus[]> {
  const [eligible, labelled] = await Promise.all([
    eligiblePods(world),
    world.list(RESOURCES.Namespace).then((all) => all.filter((one) => labelOf(one, MODE_LABEL) === 'ambient')),
  ]);
  const names = new Set([...labelled.map(({ metadata }) => metadata.name), ...eligible.map(namespaceOf)]);
  return [...names].sort().map((name) => {
    const pods = eligible.filter((pod) => namespaceOf(pod) === name);
    return { name, pods: pods.length, captured: pods.filter(isCaptured).length };
  });
}

const MODE_LABEL = 'istio.io/dataplane-mode';

function isCaptured(pod: KubeObject): boolean {
  return annotationOf(pod, REDIRECTION_ANNOTATION) === 'enabled' && conditionOf(pod, ENROLLED_CONDITION) !== 'False';
}

async function readPolicies(world: CheckWorld, unknown: string[]): Promise<PolicyProblem[]> {
  try {
    return (await world.findings()).flatMap(({ code, object, severity, field, message }) =>
      severity === 'info'
        ? []
        : [{ code, object: describeObject(object), severity, message: field === '' ? message : `${field} ${message}` }],
    );
  } catch (error) {
    unknown.push(`policies: ${error instanceof Error ? error.message : String(error)}`);
    return [];
  }
}

/** Agents of a DaemonSet that is being replaced. */
async function rolloutProblems(world: CheckWorld): Promise<string[]> {
  const problems: string[] = [];
  for (const daemonSet of await agentDaemonSets(world)) {
    const wanted = numberAt(daemonSet, 'status', 'desiredNumberScheduled');
    const updated = numberAt(daemonSet, 'status', 'updatedNumberScheduled');
    if (updated < wanted) problems.push(`${updated} of ${wanted} agents are updated`);
  }
  const draining = (await agentPods(world)).map(agentPodOf).filter(({ ending }) => ending);
  return draining.length > 0 ? [...problems, `${draining.length} agents drain`] : problems;
}

function problemsOf(
  control: MeshStatus['control'],
  agents: readonly AgentStatus[],
  namespaces: readonly NamespaceStatus[],
  rollout: readonly string[],
): string[] {
  const problems: string[] = [];
  if (control.replicas === 0) problems.push('no control plane is installed');
  else if (control.available < control.replicas)
    problems.push(`${control.available} of ${control.replicas} replicas of the control plane are available`);
  for (const { node, ready, inSync, problem } of agents) {
    if (problem !== undefined) problems.push(`${node}: ${problem}`);
    else if (!ready) problems.push(`${node}: the agent is not ready`);
    else if (!inSync) problems.push(`${node}: not in sync with the control plane`);
  }
  for (const { name, pods, captured } of namespaces)
    if (captured < pods) problems.push(`${name}: ${captured} of ${pods} pods are in the mesh`);
  return [...problems, ...rollout];
}
