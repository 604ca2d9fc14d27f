/**
 * Waiting until what was applied runs, and saying what it waits for: which replicas and agents are missing, and why by their
 * own words (container states, events of the pods).
 */
import type { KubeClient } from '../../kube/client.ts';
import type { KubeObject } from '../../kube/object.ts';
import { kubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { conditionOf, labelOf, listAt, namespaceOf, numberAt, textAt } from '../check/fields.ts';

export interface RolloutPart {
  /** `control plane 1/2`, `agents 3/4`. */
  readonly text: string;
  readonly done: boolean;
}

/** What of the mesh runs now. Waits for the observed generation, so that a change just made is not missed. */
export async function inspectRollout(client: KubeClient, namespace: string): Promise<RolloutPart[]> {
  const [deployments, daemonSets] = await Promise.all([
    listOf(client, RESOURCES.Deployment, namespace, 'ambit-control'),
    listOf(client, RESOURCES.DaemonSet, namespace, 'ambit-agent'),
  ]);
  return [
    ...deployments.map((one) =>
      part('control plane', one, numberAt(one, 'spec', 'replicas'), 'availableReplicas', 'updatedReplicas'),
    ),
    ...daemonSets.map((one) =>
      part(
        'agents',
        one,
        numberAt(one, 'status', 'desiredNumberScheduled'),
        'numberAvailable',
        'updatedNumberScheduled',
      ),
    ),
  ];
}

/** Why pods of the mesh do not run, one line each. */
export async function findObstacles(client: KubeClient, namespace: string): Promise<string[]> {
  const { items } = await client.list(RESOURCES.Pod, { namespace, labelSelector: 'app.kubernetes.io/part-of=ambit' });
  const pods = items.flatMap((item) => kubeObject(item) ?? []).filter((pod) => conditionOf(pod, 'Ready') !== 'True');
  return await Promise.all(pods.map((pod) => obstacleOf(client, pod)));
}

async function obstacleOf(client: KubeClient, pod: KubeObject): Promise<string> {
  const name = pod.metadata.name;
  for (const status of listAt(pod, 'status', 'containerStatuses')) {
    const reason = textAt(status, 'state', 'waiting', 'reason');
    if (reason !== '' && reason !== 'ContainerCreating') {
      return `${name}: ${reason} ${textAt(status, 'state', 'waiting', 'message')}`.trimEnd();
    }
  }
  const unscheduled = listAt(pod, 'status', 'conditions').find(
    (one) => textAt(one, 'type') === 'PodScheduled' && textAt(one, 'status') === 'False',
  );
  if (unscheduled !== undefined) return `${name}: ${textAt(unscheduled, 'message')}`;
  const fieldSelector = `regarding.name=${name},type=Warning`;
  const events = await client
    .list(RESOURCES.Event, { namespace: namespaceOf(pod), fieldSelector })
    .catch(() => ({ items: [] }));
  const last = events.items.at(-1);
  return last === undefined ? `${name}: not ready yet` : `${name}: ${textAt(last, 'note')}`;
}

async function listOf(
  client: KubeClient,
  resource: typeof RESOURCES.Deployment | typeof RESOURCES.DaemonSet,
  namespace: string,
  name: string,
) {
  const { items } = await client.list(resource, { namespace });
  return items
    .flatMap((item) => kubeObject(item) ?? [])
    .filter((one) => labelOf(one, 'app.kubernetes.io/name') === name);
}

function part(
  what: string,
  one: KubeObject,
  wanted: number,
  availableField: string,
  updatedField: string,
): RolloutPart {
  const seen = numberAt(one, 'status', 'observedGeneration') >= numberAt(one.metadata, 'generation');
  const available = numberAt(one, 'status', availableField);
  const updated = numberAt(one, 'status', updatedField);
  const done = seen && wanted > 0 && available >= wanted && updated >= wanted;
  return { text: `${what} ${Math.min(available, updated)}/${wanted}`, done };
}
