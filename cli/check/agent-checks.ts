/** The node agents: on every node, ready, and every pod that belongs in the mesh in it. */
import { decideEligibility, eligibilitySettings } from '../../core/enrolment/eligibility.ts';
import { REDIRECTION_ANNOTATION } from '../../core/enrolment/redirection.ts';
import type { KubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { type Check, type CheckOutcome, failed, nameSome, ok, outcomes, warning } from './check.ts';
import { agentDaemonSets } from './control-checks.ts';
import { annotationOf, at, conditionOf, fullName, labelOf, listAt, namespaceOf, numberAt, textAt } from './fields.ts';
import type { CheckWorld } from './world.ts';

/** Taints that keep pods off a node until its agent is ready. */
const START_TAINTS: ReadonlySet<string> = new Set(['cni.istio.io/not-ready', 'ambit.dev/not-ready']);

export const AGENT_CHECKS: readonly Check[] = [
  {
    id: 'agents.everywhere',
    group: 'node agents',
    about: 'Every node that can run pods has a ready agent. On a node without one, pods of the mesh cannot start.',
    when: 'installed',
    async run(world) {
      const daemonSets = await agentDaemonSets(world);
      if (daemonSets.length === 0) return [failed(`no agents in namespace ${world.namespace}`, 'ambit install')];
      const served = new Set((await agentPods(world)).filter(isReady).map((pod) => textAt(pod, 'spec', 'nodeName')));
      const nodes = (await world.nodes()).map(({ metadata }) => metadata.name);
      const without = nodes.filter((name) => !served.has(name));
      if (without.length === 0) return ok(`${nodes.length} of ${nodes.length} nodes`);
      return [
        failed(
          `no ready agent on ${nameSome(without)}`,
          `kubectl get pods -n ${world.namespace} -l app.kubernetes.io/name=ambit-agent -o wide`,
        ),
      ];
    },
  },
  {
    id: 'agents.rollout',
    group: 'node agents',
    about: 'The agents are those of the present DaemonSet, and none restarts again and again.',
    when: 'installed',
    async run(world) {
      const problems: CheckOutcome[] = [];
      for (const daemonSet of await agentDaemonSets(world)) {
        const wanted = numberAt(daemonSet, 'status', 'desiredNumberScheduled');
        const updated = numberAt(daemonSet, 'status', 'updatedNumberScheduled');
        if (updated < wanted)
          problems.push(
            warning(
              `${updated} of ${wanted} agents are updated`,
              `kubectl rollout status -n ${world.namespace} ds/${daemonSet.metadata.name}`,
            ),
          );
      }
      const pods = await agentPods(world);
      for (const pod of pods) {
        const restarts = listAt(pod, 'status', 'containerStatuses').reduce(
          (sum: number, one) => sum + numberAt(one, 'restartCount'),
          0,
        );
        if (restarts > 0)
          problems.push(
            warning(
              `${pod.metadata.name} was restarted ${restarts} times`,
              `kubectl logs -n ${world.namespace} ${pod.metadata.name} --previous`,
            ),
          );
      }
      return outcomes(problems, `${pods.length} agents, none restarted`);
    },
  },
  {
    id: 'agents.taints',
    group: 'node agents',
    about: 'Nodes with a ready agent have lost the taint that kept pods away until then.',
    when: 'installed',
    async run(world) {
      const served = new Set((await agentPods(world)).filter(isReady).map((pod) => textAt(pod, 'spec', 'nodeName')));
      const held = (await world.nodes()).filter((node) =>
        listAt(node, 'spec', 'taints').some((taint) => START_TAINTS.has(textAt(taint, 'key'))),
      );
      const problems = held.map((node) =>
        served.has(node.metadata.name)
          ? failed(
              `${node.metadata.name} is still tainted`,
              'the writer of the control plane removes it: see control.leader',
            )
          : warning(`${node.metadata.name} waits for its agent`),
      );
      return outcomes(problems, 'no node is held back');
    },
  },
  {
    id: 'capture.pods',
    group: 'traffic',
    about: 'Every running pod that the labels put into the mesh is in it, and none that they do not.',
    when: 'installed',
    async run(world) {
      const eligible = new Set(await eligiblePods(world));
      const pods = (await world.list(RESOURCES.Pod)).filter(isRunning).filter((pod) => isOnNode(world, pod));
      let inside = 0;
      const missing: string[] = [];
      const pending: string[] = [];
      const leftover: string[] = [];
      for (const pod of pods) {
        const wanted = eligible.has(pod);
        const state = annotationOf(pod, REDIRECTION_ANNOTATION);
        if (wanted && state === 'enabled') inside++;
        else if (wanted) (state === 'pending' ? pending : missing).push(fullName(pod));
        else if (state !== undefined) leftover.push(fullName(pod));
      }
      const problems: CheckOutcome[] = [];
      const look = (name: string): string => `kubectl describe pod -n ${name.replace('/', ' ')}`;
      if (missing.length > 0)
        problems.push(failed(`not in the mesh although labelled: ${nameSome(missing)}`, look(missing[0] ?? '')));
      if (pending.length > 0) problems.push(failed(`held back: ${nameSome(pending)}`, look(pending[0] ?? '')));
      if (leftover.length > 0)
        problems.push(
          warning(`still in the mesh although not labelled: ${nameSome(leftover)}`, look(leftover[0] ?? '')),
        );
      if (inside === 0 && problems.length === 0) {
        return [warning('no pod is in the mesh', 'kubectl label namespace <name> istio.io/dataplane-mode=ambient')];
      }
      return outcomes(problems, `${inside} of ${inside} labelled pods are captured`);
    },
  },
];

/** Running pods of the nodes looked at that labels put into the mesh. */
export async function eligiblePods(world: CheckWorld): Promise<readonly KubeObject[]> {
  const excluded = await excludedNamespaces(world);
  const namespaces = new Map((await world.list(RESOURCES.Namespace)).map((one) => [one.metadata.name, one]));
  return (await world.list(RESOURCES.Pod))
    .filter((pod) => isRunning(pod) && isOnNode(world, pod))
    .filter((pod) => isEligible(pod, namespaces.get(namespaceOf(pod)), excluded));
}

export async function agentPods(world: CheckWorld): Promise<readonly KubeObject[]> {
  const pods = await world.list(RESOURCES.Pod, world.namespace);
  return pods
    .filter((pod) => labelOf(pod, 'app.kubernetes.io/name') === 'ambit-agent')
    .filter((pod) => isOnNode(world, pod) && at(pod.metadata, 'deletionTimestamp') === undefined);
}

export function isReady(pod: KubeObject): boolean {
  return conditionOf(pod, 'Ready') === 'True';
}

function isOnNode(world: CheckWorld, pod: KubeObject): boolean {
  return world.node === undefined || textAt(pod, 'spec', 'nodeName') === world.node;
}

function isRunning(pod: KubeObject): boolean {
  return textAt(pod, 'status', 'phase') === 'Running' && at(pod.metadata, 'deletionTimestamp') === undefined;
}

function isEligible(pod: KubeObject, namespace: KubeObject | undefined, excluded: readonly string[]): boolean {
  const verdict = decideEligibility(
    {
      namespace: namespaceOf(pod),
      hostNetwork: at(pod, 'spec', 'hostNetwork') === true,
      labels: textsAt(pod.metadata.labels),
      annotations: textsAt(pod.metadata.annotations),
    },
    textsAt(namespace?.metadata.labels),
    eligibilitySettings(excluded),
  );
  return verdict.kind === 'eligible';
}

/** As the agents were told. */
async function excludedNamespaces(world: CheckWorld): Promise<string[]> {
  const [daemonSet] = await agentDaemonSets(world);
  const [container] = listAt(daemonSet, 'spec', 'template', 'spec', 'containers');
  const setting = listAt(container, 'env').find((one) => textAt(one, 'name') === 'AMBIT_EXCLUDED_NAMESPACES');
  return setting === undefined ? ['kube-system'] : textAt(setting, 'value').split(',');
}

function textsAt(value: unknown): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [key, entry] of Object.entries(typeof value === 'object' && value !== null ? value : {})) {
    if (typeof entry === 'string') texts[key] = entry;
  }
  return texts;
}
