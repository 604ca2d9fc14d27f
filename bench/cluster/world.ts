/**
 * What the load runs on: the same pods in two namespaces, one in the mesh and one not, so that both can be measured in
 * turn within one run.
 *
 *     first node: cl1 fs1      second node: cl2 fs2      roll: two replicas, wherever they fit
 *
 * Clients and servers have a service account each. Servers are addressed by the names of their services.
 */
import type { Cluster } from '../../test/support/cluster.ts';
import { namespace } from '../../test/support/cluster-workloads.ts';
import { LOAD_IMAGE } from './load-image.ts';

export const HTTP_PORT = 8080;
export const STREAM_PORT = 5201;

export const PLAIN = 'load-plain';
export const MESH = 'load-mesh';
export const NAMESPACES = [PLAIN, MESH] as const;
export type LoadNamespace = (typeof NAMESPACES)[number];

export const PATHS = ['cross', 'same'] as const;
export type Path = (typeof PATHS)[number];
/** The server that the client on the first node calls. */
export const SERVER_OF: Readonly<Record<Path, string>> = { cross: 'fs2', same: 'fs1' };

export const MESH_LABEL = 'istio.io/dataplane-mode';
/** Says of a pod that it is captured. */
export const CAPTURED_ANNOTATION = 'ambient.istio.io/redirection';

export async function createWorld(cluster: Cluster): Promise<void> {
  const [first = '', second = first] = await cluster.nodes();
  for (const within of NAMESPACES) {
    await cluster.apply(namespace(within, within === MESH ? { [MESH_LABEL]: 'ambient' } : {}));
    await cluster.apply(
      ...['clients', 'servers'].map((name) => ({
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name, namespace: within },
      })),
      client(within, 'cl1', first),
      client(within, 'cl2', second),
      server(within, 'fs1', first),
      server(within, 'fs2', second),
      rollingServer(within),
      ...['fs1', 'fs2', 'roll'].map((name) => service(within, name)),
    );
  }
  for (const within of NAMESPACES) {
    await cluster.waitFor(within, 'pod/cl1', 'condition=Ready');
    for (const pod of ['cl2', 'fs1', 'fs2']) await cluster.waitFor(within, `pod/${pod}`, 'condition=Ready');
    await cluster.waitForRollout(within, 'deployment/roll');
  }
}

export async function removeWorld(cluster: Cluster): Promise<void> {
  await cluster.kubectl(['delete', 'namespace', '--ignore-not-found', ...NAMESPACES], { timeoutMs: 90_000 });
}

export interface PodState {
  readonly name: string;
  readonly captured: boolean;
}

export async function podStates(cluster: Cluster, within: LoadNamespace): Promise<PodState[]> {
  const annotation = CAPTURED_ANNOTATION.replaceAll('.', '\\.');
  const path = `{range .items[*]}{.metadata.name} {.metadata.annotations.${annotation}}{"\\n"}{end}`;
  const text = await cluster.kubectl(['get', 'pods', '-n', within, '-o', `jsonpath=${path}`]);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', state] = line.split(' ');
      return { name, captured: state === 'enabled' };
    });
}

/** A pod of its own for start times: it only sleeps. */
export function startingPod(within: LoadNamespace, name: string, node: string): object {
  return pod(within, name, node, 'clients', { command: ['sleep', '3600'] });
}

function client(within: LoadNamespace, name: string, node: string): object {
  return pod(within, name, node, 'clients', { command: ['sleep', '86400'] });
}

function server(within: LoadNamespace, name: string, node: string): object {
  return pod(within, name, node, 'servers', {});
}

function pod(within: LoadNamespace, name: string, node: string, account: string, container: object): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: within, labels: { app: name } },
    spec: { ...podSpec(account, container), nodeName: node },
  };
}

/** Five seconds of grace and no preStop: the process ends at once, as many do. */
function rollingServer(within: LoadNamespace): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'roll', namespace: within },
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: 'roll' } },
      template: {
        metadata: { labels: { app: 'roll' } },
        spec: { ...podSpec('servers', {}), terminationGracePeriodSeconds: 5 },
      },
    },
  };
}

function podSpec(account: string, container: object): object {
  return {
    serviceAccountName: account,
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'load', image: LOAD_IMAGE, imagePullPolicy: 'IfNotPresent', ...container }],
  };
}

function service(within: LoadNamespace, name: string): object {
  const ports = [
    { name: 'http', port: HTTP_PORT },
    { name: 'stream', port: STREAM_PORT },
  ];
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: within },
    spec: { selector: { app: name }, ports },
  };
}
