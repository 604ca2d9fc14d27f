/**
 * Removes the DaemonSet of the agents and waits until each has cleaned its node up. An agent tells by an Event about its
 * node what it removed and what it found left (reason `AmbitRemoved`, or `AmbitRemovalIncomplete`).
 */
import { REMOVAL_EVENT, REMOVAL_INCOMPLETE_EVENT } from '../../core/enrolment/removal.ts';
import { toAmbitError } from '../../core/errors.ts';
import type { KubeClient } from '../../kube/client.ts';
import { kubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { labelOf, textAt } from '../check/fields.ts';

export interface NodeRemoval {
  readonly node: string;
  /** The agent says that nothing of it is left. */
  readonly ok: boolean;
  readonly text: string;
}

const LOOK_INTERVAL_MS = 250;
/** Events reach the API server a moment before the pod is gone from it. */
const SETTLE_MS = 1_000;

/** Rejects when the DaemonSet cannot be deleted; a node whose agent says nothing is reported as not ok. */
export async function removeAgents(client: KubeClient, namespace: string, timeoutMs: number): Promise<NodeRemoval[]> {
  const nodes = await nodesWithAgents(client, namespace);
  // An event of an earlier removal proves nothing, however short ago it was.
  const earlier = new Set((await removalEvents(client)).map(versionOf));
  for (const daemonSet of await objects(client, RESOURCES.DaemonSet, namespace)) {
    if (labelOf(daemonSet, 'app.kubernetes.io/name') !== 'ambit-agent') continue;
    await client.delete(RESOURCES.DaemonSet, namespace, daemonSet.metadata.name);
  }
  const deadlineMs = Date.now() + timeoutMs;
  while ((await nodesWithAgents(client, namespace)).length > 0 && Date.now() < deadlineMs)
    await pause(LOOK_INTERVAL_MS);
  const settledMs = Date.now() + SETTLE_MS;
  let reports = await readReports(client, earlier);
  while (nodes.some((node) => !reports.has(node)) && Date.now() < settledMs) {
    await pause(LOOK_INTERVAL_MS);
    reports = await readReports(client, earlier);
  }
  return nodes.map(
    (node) => reports.get(node) ?? { node, ok: false, text: 'its agent did not say that it cleaned up' },
  );
}

async function readReports(client: KubeClient, earlier: ReadonlySet<string>): Promise<Map<string, NodeRemoval>> {
  const reports = new Map<string, NodeRemoval>();
  for (const event of await removalEvents(client)) {
    if (earlier.has(versionOf(event))) continue;
    const node = textAt(event, 'regarding', 'name');
    reports.set(node, { node, ok: textAt(event, 'reason') === REMOVAL_EVENT, text: textAt(event, 'note') });
  }
  return reports;
}

async function removalEvents(client: KubeClient): Promise<unknown[]> {
  const { items } = await client.list(RESOURCES.Event, { fieldSelector: 'regarding.kind=Node' }).catch((thrown) => {
    throw toAmbitError(thrown, 'KUBERNETES_API');
  });
  return items.filter((item) => [REMOVAL_EVENT, REMOVAL_INCOMPLETE_EVENT].includes(textAt(item, 'reason')));
}

/** Changes when an event is told again. */
function versionOf(event: unknown): string {
  return `${textAt(event, 'metadata', 'uid')} ${textAt(event, 'metadata', 'resourceVersion')}`;
}

async function nodesWithAgents(client: KubeClient, namespace: string): Promise<string[]> {
  const pods = await objects(client, RESOURCES.Pod, namespace);
  const nodes = pods
    .filter((pod) => labelOf(pod, 'app.kubernetes.io/name') === 'ambit-agent')
    .map((pod) => textAt(pod, 'spec', 'nodeName'));
  return [...new Set(nodes)].filter((node) => node !== '').sort();
}

async function objects(
  client: KubeClient,
  resource: typeof RESOURCES.Pod | typeof RESOURCES.DaemonSet,
  namespace: string,
) {
  const { items } = await client.list(resource, { namespace });
  return items.flatMap((item) => kubeObject(item) ?? []);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
