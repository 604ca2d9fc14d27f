/** Captured pods, tried out: redirection from inside, probes of the kubelet, and the state of discovery at the control plane. */
import type { KubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';
import type { NodePod } from '../node-report.ts';
import { formatDuration } from '../output.ts';
import { type Check, type CheckOutcome, failed, nameSome, ok, outcomes, skipped, warning } from './check.ts';
import { at, conditionOf, listAt } from './fields.ts';

/** An agent that is this far behind for this long does not come after. */
const LONG_BEHIND_MS = 10_000;

export const TRAFFIC_CHECKS: readonly Check[] = [
  {
    id: 'control.sync',
    group: 'control plane',
    about: 'Every agent has acknowledged everything its replica of the control plane has, and refused nothing.',
    when: 'installed',
    async run(world) {
      const rows = (await world.proxyStatus()).filter(({ node }) => world.node === undefined || node === world.node);
      if (rows.length === 0) return skipped('no agent is connected');
      const problems: CheckOutcome[] = [];
      for (const { proxy, node, synced, behind, behindMs, lastNack } of rows) {
        const who = node === '' ? proxy : node;
        if (!synced) {
          const text = `${who}: ${behind} resources behind for ${formatDuration(behindMs)}`;
          problems.push(
            behindMs > LONG_BEHIND_MS ? failed(text, 'ambit proxy-status') : warning(text, 'ambit proxy-status'),
          );
        }
        if (lastNack !== undefined)
          problems.push(warning(`${who}: refused ${lastNack.type}: ${lastNack.reason}`, 'ambit proxy-status'));
      }
      return outcomes(problems, `${rows.length} of ${rows.length} agents in sync`);
    },
  },
  {
    id: 'capture.live',
    group: 'traffic',
    about: 'A connection opened inside each captured pod at this moment arrives at the agent.',
    when: 'installed',
    async run(world) {
      const { reports } = await world.nodeReports();
      if (reports.length === 0) return skipped('no agent answers');
      const pods = reports.flatMap(({ agent, report }) => report.pods.map((pod) => ({ ...pod, node: agent.node })));
      const problems: CheckOutcome[] = [];
      for (const pod of pods) {
        const name = `${pod.namespace}/${pod.name} on ${pod.node}`;
        const fix = `kubectl describe pod -n ${pod.namespace} ${pod.name}`;
        if (pod.state === 'broken') problems.push(failed(`${name} is cut off: ${pod.problem ?? 'unknown why'}`, fix));
        else if (pod.problem !== undefined) problems.push(failed(`${name}: ${pod.problem}`, fix));
        else if (isMissed(pod)) problems.push(failed(`${name} is not redirected: ${pod.selfTest}`, fix));
      }
      const enrolled = pods.filter(({ state }) => state === 'enrolled');
      const untried = enrolled.filter(({ selfTest }) => selfTest === 'not tried').length;
      if (untried > 0) problems.push(warning(`${untried} of ${enrolled.length} pods were not tried in time`));
      if (enrolled.length === 0 && problems.length === 0) return skipped('no pod is captured');
      const passed = enrolled.filter(({ selfTest }) => selfTest === 'passed').length;
      return outcomes(problems, `${passed} of ${enrolled.length} captured pods redirect (probed)`);
    },
  },
  {
    id: 'capture.probes',
    group: 'traffic',
    about: 'Agents recognise the connections of the kubelet, so that probes of captured pods work under every policy.',
    when: 'installed',
    async run(world) {
      const { reports } = await world.nodeReports();
      if (reports.length === 0) return skipped('no agent answers');
      const problems: CheckOutcome[] = reports.flatMap(({ agent, report: { probes } }) =>
        probes === undefined || probes === 'recognised'
          ? []
          : [failed(`${agent.node}: ${probes}`, `kubectl logs -n ${agent.namespace} ${agent.name}`)],
      );
      const captured = new Set(
        reports.flatMap(({ report }) => report.pods.map(({ namespace, name }) => `${namespace}/${name}`)),
      );
      const probed = (await world.list(RESOURCES.Pod)).filter(
        (pod) => captured.has(`${pod.metadata.namespace}/${pod.metadata.name}`) && hasProbe(pod),
      );
      const unready = probed
        .filter((pod) => conditionOf(pod, 'Ready') === 'False' && at(pod.metadata, 'deletionTimestamp') === undefined)
        .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
      const [first = ''] = unready;
      if (unready.length > 0)
        problems.push(
          warning(
            `captured, with probes, and not ready: ${nameSome(unready)}`,
            `kubectl describe pod -n ${first.replace('/', ' ')}`,
          ),
        );
      if (problems.length > 0) return problems;
      return ok(`${probed.length} captured pods with probes, all ready`);
    },
  },
];

function isMissed({ state, selfTest }: NodePod): boolean {
  return state === 'enrolled' && selfTest !== undefined && selfTest !== 'passed' && selfTest !== 'not tried';
}

function hasProbe(pod: KubeObject): boolean {
  return listAt(pod, 'spec', 'containers').some((container) =>
    ['readinessProbe', 'livenessProbe', 'startupProbe'].some((kind) => at(container, kind) !== undefined),
  );
}
