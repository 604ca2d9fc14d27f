/**
 * The agents and control plane replicas of a cluster as commands ask them: pages of their loopback ports, reached through
 * the API server (`pods/portforward`), so that the user's own kubeconfig and its rights are all that is needed.
 */
import { AmbitError } from '../core/errors.ts';
import { ADMIN_PORT, CONTROL_STATUS_PORT } from '../core/ports.ts';
import type { KubeClient } from '../kube/client.ts';
import { type KubeObject, kubeObject } from '../kube/object.ts';
import { getPodPage } from '../kube/pod-http.ts';
import { RESOURCES } from '../kube/resource.ts';
import { at, conditionOf, listAt, textAt } from './check/fields.ts';
import { type NodeReport, readNodeReport } from './node-report.ts';

export const AGENT_SELECTOR = 'app.kubernetes.io/name=ambit-agent';
export const CONTROL_SELECTOR = 'app.kubernetes.io/name=ambit-control';
const TIMEOUT_MS = 10_000;
/** Connections through the API server at the same time. */
const AT_ONCE = 8;

/** A page of a pod by its port and path; the JSON of it. */
export type ReadPage = (namespace: string, pod: string, port: number, path: string) => Promise<unknown>;

export function pagesOf(client: KubeClient): ReadPage {
  return (namespace, pod, port, path) => getPodPage(client, { namespace, pod, port }, path, TIMEOUT_MS);
}

export interface AgentPod {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly ready: boolean;
  /** It was told to end. */
  readonly ending: boolean;
  readonly restarts: number;
}

export function agentPodOf(pod: KubeObject): AgentPod {
  const restarts = listAt(pod, 'status', 'containerStatuses').map((one) => Number(at(one, 'restartCount') ?? 0));
  return {
    namespace: pod.metadata.namespace ?? '',
    name: pod.metadata.name,
    node: textAt(pod, 'spec', 'nodeName'),
    ready: conditionOf(pod, 'Ready') === 'True',
    ending: at(pod.metadata, 'deletionTimestamp') !== undefined,
    restarts: restarts.reduce((sum, one) => sum + one, 0),
  };
}

/** The agent of each node that serves it: not one that drains, a ready one before others. In the order of the nodes. */
export function servingAgents(pods: readonly KubeObject[]): AgentPod[] {
  const byNode = new Map<string, AgentPod>();
  for (const agent of pods.map(agentPodOf)) {
    const known = byNode.get(agent.node);
    if (agent.node === '' || (known !== undefined && rank(known) >= rank(agent))) continue;
    byNode.set(agent.node, agent);
  }
  return [...byNode.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
}

/** Rejects with ADMIN_UNREACHABLE when there are none. */
export async function findAgents(client: Pick<KubeClient, 'list'>, namespace: string): Promise<AgentPod[]> {
  const { items } = await client.list(RESOURCES.Pod, { namespace, labelSelector: AGENT_SELECTOR });
  const agents = servingAgents(items.flatMap((item) => kubeObject(item) ?? []));
  if (agents.length > 0) return agents;
  throw new AmbitError('ADMIN_UNREACHABLE', `no agent runs in the namespace ${namespace} (-n names another)`);
}

/** What the agent of a node says, and when: the middle of the call by the clock of this machine. */
export interface AgentReport {
  readonly agent: AgentPod;
  readonly report: NodeReport;
  /** Clock of the node minus clock of this machine, and how far that may be off, milliseconds. */
  readonly clockAheadMs: number;
  readonly clockErrorMs: number;
}

export interface AgentFailure {
  readonly agent: AgentPod;
  readonly problem: string;
}

export interface AgentReports {
  readonly reports: readonly AgentReport[];
  readonly failures: readonly AgentFailure[];
}

/** `probe`: agents try from inside every pod whether it is redirected. Never rejects. */
export async function askAgents(
  read: ReadPage,
  agents: readonly AgentPod[],
  options: { readonly probe: boolean; readonly nowMs: () => number },
): Promise<AgentReports> {
  const reports: AgentReport[] = [];
  const failures: AgentFailure[] = [];
  await eachOf(agents, AT_ONCE, async (agent) => {
    const beforeMs = options.nowMs();
    try {
      const page = await read(agent.namespace, agent.name, ADMIN_PORT, options.probe ? '/node?probe' : '/node');
      const report = readNodeReport(agent.node, page);
      const afterMs = options.nowMs();
      const clockAheadMs = Date.parse(report.clock) - (beforeMs + afterMs) / 2;
      reports.push({ agent, report, clockAheadMs, clockErrorMs: (afterMs - beforeMs) / 2 });
    } catch (thrown) {
      failures.push({ agent, problem: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  });
  const byNode = (a: { agent: AgentPod }, b: { agent: AgentPod }): number => (a.agent.node < b.agent.node ? -1 : 1);
  return { reports: reports.sort(byNode), failures: failures.sort(byNode) };
}

/** Runs `work` on every item, at most `atOnce` at a time. Rejects with the first failure. */
export async function eachOf<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const next = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, next));
}

/** The view of a control plane replica under /debug. */
export function readControlView(read: ReadPage, namespace: string, pod: string, view: string): Promise<unknown> {
  return read(namespace, pod, CONTROL_STATUS_PORT, `/debug/${view}`);
}

function rank({ ending, ready }: AgentPod): number {
  return (ending ? 0 : 2) + (ready ? 1 : 0);
}
