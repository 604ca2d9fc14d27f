/**
 * The fixed shape of the sandbox: names, addresses and paths.
 *
 * Nothing here can collide with the host or with a second sandbox: every run lives in network, mount and process
 * namespaces of its own (see host.ts), in which /run is an empty tmpfs and no address but these exists.
 *
 *     control  10.91.254.1  --- mgmt --- node a 10.91.254.11      pods 10.91.1.0/24
 *                           --- mgmt --- node b 10.91.254.12      pods 10.91.2.0/24
 *     node a 10.91.0.1  ====== wire ======  10.91.0.2 node b      services 10.92.0.0/16
 */

export const NODE_NAMES = ['a', 'b'] as const;
export type NodeName = (typeof NODE_NAMES)[number];

export interface NodeLayout {
  readonly name: NodeName;
  /** Name under /run/netns. */
  readonly namespace: string;
  /** Address on the link to the other node. */
  readonly wireIp: string;
  /** Address on the link to the control plane. */
  readonly managementIp: string;
  readonly podRange: string;
  /** Run directory of the agent and of the CNI plugin that asks it. */
  readonly runDirectory: string;
}

export const NODES: Readonly<Record<NodeName, NodeLayout>> = {
  a: {
    name: 'a',
    namespace: 'node-a',
    wireIp: '10.91.0.1',
    managementIp: '10.91.254.11',
    podRange: '10.91.1.0/24',
    runDirectory: '/run/ambit/node-a',
  },
  b: {
    name: 'b',
    namespace: 'node-b',
    wireIp: '10.91.0.2',
    managementIp: '10.91.254.12',
    podRange: '10.91.2.0/24',
    runDirectory: '/run/ambit/node-b',
  },
};

export const WIRE_INTERFACE = 'wire';
export const MANAGEMENT_INTERFACE = 'mgmt';
export const CONTROL_IP = '10.91.254.1';
export const CONTROL_PORT = 15012;
export const TRUST_DOMAIN = 'cluster.local';

/** Folders inside the run's own /run. */
export const WORLD_DIRECTORY = '/run/ambit';
export const NETNS_DIRECTORY = '/run/netns';
export const CONTROL_STATE_DIRECTORY = `${WORLD_DIRECTORY}/control`;
/**
 * What the control plane watches. Below it, by mounts: `sandbox/mesh` is the mesh folder (so that paths in its reports are
 * those of the repository) without its pods, and `cluster` holds the pods as they were scheduled.
 */
export const CONFIG_DIRECTORY = `${WORLD_DIRECTORY}/config`;
export const CONFIG_MESH_DIRECTORY = `${CONFIG_DIRECTORY}/sandbox/mesh`;
export const CLUSTER_DIRECTORY = `${CONFIG_DIRECTORY}/cluster`;
/** Pods and namespaces for the agents. */
export const POD_DIRECTORY = `${WORLD_DIRECTORY}/pods`;
/** Copy of the mesh folder in unattended runs, so that the check never edits the user's files. */
export const MESH_COPY_DIRECTORY = `${WORLD_DIRECTORY}/mesh`;
/** Part of the mesh folder with the pods to run. */
export const MESH_PODS = 'pods';
/** One hosts file per namespace. */
export const HOSTS_DIRECTORY = `${WORLD_DIRECTORY}/hosts`;
export const CNI_STATE_DIRECTORY = `${WORLD_DIRECTORY}/cni`;
/** Where `ambit sandbox ...` commands reach the running sandbox. */
export const COMMAND_SOCKET = `${WORLD_DIRECTORY}/sandbox.sock`;

/** Runs register here, on the host's own /run. One folder per run, gone with it. */
export const REGISTRY_DIRECTORY = '/run/ambit-sandbox';

/** Folders in which distributions put the reference CNI plugins. */
export const CNI_PLUGIN_DIRECTORIES: readonly string[] = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];

export const REPOSITORY_DIRECTORY: string = new URL('..', import.meta.url).pathname.replace(/\/$/, '');
export const MESH_DIRECTORY = `${REPOSITORY_DIRECTORY}/sandbox/mesh`;

export function isNodeName(text: string): text is NodeName {
  return NODE_NAMES.some((name) => name === text);
}

/** Name of a pod's network namespace. */
export function podNamespace(namespace: string, name: string): string {
  return `pod-${namespace}-${name}`;
}

export function netnsPath(namespace: string): string {
  return `${NETNS_DIRECTORY}/${namespace}`;
}
