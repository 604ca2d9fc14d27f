/** Ambit on a cluster for one test file: image of the present sources, `ambit install`, and what tests ask nodes and agents. */
import { join } from 'node:path';
import { ADMIN_PORT } from '../../core/ports.ts';
import { BUILDAH, ImageSources } from './ambit-image.ts';
import { Bed, type Cluster, openCluster, run } from './cluster.ts';
import { clusterBinary } from './cluster-binaries.ts';
import { textAt, valueAt } from './kube-api-call.ts';
import { ROOT } from './source-files.ts';

export const MESH_NAMESPACE = 'istio-system';
export const AGENT_LABEL = 'app.kubernetes.io/name=ambit-agent';
export const MODE_LABEL = 'istio.io/dataplane-mode';
const INSTALL_TIMEOUT_MS = 240_000;

export interface AgentPod {
  readonly name: string;
  readonly node: string;
  readonly ready: boolean;
  readonly restarts: number;
  readonly deleting: boolean;
}

export class ClusterMesh implements AsyncDisposable {
  readonly bed: Bed;
  readonly #tag: string;
  /** The image was made for this file, and goes with it. */
  readonly #built: boolean;

  private constructor(bed: Bed, tag: string, built: boolean) {
    this.bed = bed;
    this.#tag = tag;
    this.#built = built;
  }

  /** A bed with the image on both nodes; nothing is installed yet. `AMBIT_TEST_IMAGE_TAG`: an image that is there. */
  static async open(): Promise<ClusterMesh> {
    const given = process.env.AMBIT_TEST_IMAGE_TAG;
    const tag = given ?? `t${process.pid}`;
    const [bed] = await Promise.all([openBed(), given === undefined ? build(tag) : undefined]);
    const mesh = new ClusterMesh(bed, tag, given === undefined);
    try {
      await bed.loadImage(`localhost/ambit:${tag}`);
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
    return mesh;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bed[Symbol.asyncDispose]();
    if (!this.#built) return;
    const [program = '', ...args] = BUILDAH;
    await run(program, [...args, 'rmi', '--force', `localhost/ambit:${this.#tag}`]);
  }

  /** The command line of this checkout. */
  async ambit(...args: readonly string[]): Promise<string> {
    return await run(process.execPath, [join(ROOT, 'cli', 'main.ts'), ...args], {
      timeoutMs: INSTALL_TIMEOUT_MS,
      environment: { KUBECONFIG: this.bed.kubeconfig, HELM: clusterBinary('helm') },
    });
  }

  /** One replica of the control plane, and the image of this file. */
  async install(verb: 'install' | 'upgrade' = 'install', ...values: readonly string[]): Promise<string> {
    const pairs = [`global.tag=${this.#tag}`, 'ambit-control.replicaCount=1', ...values];
    return await this.ambit(verb, '-y', ...pairs.flatMap((pair) => ['--set', pair]));
  }

  async agents(): Promise<AgentPod[]> {
    const items = await this.bed.pods(MESH_NAMESPACE, AGENT_LABEL);
    return items.map((item) => ({
      name: textAt(item, 'metadata', 'name'),
      node: textAt(item, 'spec', 'nodeName'),
      ready: valueAt(item, 'status', 'containerStatuses', 0, 'ready') === true,
      restarts: Number(valueAt(item, 'status', 'containerStatuses', 0, 'restartCount') ?? 0),
      deleting: valueAt(item, 'metadata', 'deletionTimestamp') !== undefined,
    }));
  }

  /** The one that serves the node, not one that drains or waits. */
  async agentOf(node: string): Promise<AgentPod> {
    const candidates = (await this.agents()).filter((candidate) => candidate.node === node && !candidate.deleting);
    const agent = candidates.find(({ ready }) => ready) ?? candidates[0];
    if (agent === undefined) throw new Error(`no agent runs on ${node}`);
    return agent;
  }

  /** What the agent of the node carries now, as its admin port tells it. */
  async connectionsOn(node: string): Promise<string> {
    const { name } = await this.agentOf(node);
    const program = `fetch('http://127.0.0.1:${ADMIN_PORT}/connections').then((r) => r.text()).then(console.log)`;
    return await this.bed.podExec(MESH_NAMESPACE, name, ['node', '-e', program]);
  }

  async agentLog(name: string): Promise<string> {
    return await this.bed.kubectl(['logs', '-n', MESH_NAMESPACE, name]);
  }

  async label(namespace: string, mode: string | undefined): Promise<void> {
    const change = mode === undefined ? `${MODE_LABEL}-` : `${MODE_LABEL}=${mode}`;
    await this.bed.kubectl(['label', 'namespace', namespace, change, '--overwrite']);
  }

  async labelPod(namespace: string, pod: string, mode: string | undefined): Promise<void> {
    const change = mode === undefined ? `${MODE_LABEL}-` : `${MODE_LABEL}=${mode}`;
    await this.bed.kubectl(['label', 'pod', '-n', namespace, pod, change, '--overwrite']);
  }

  /** Sends a signal to a process of the agent on a node: the agent itself, or the whole container. */
  async killAgent(node: string, what: 'process' | 'container'): Promise<void> {
    const pattern = what === 'process' ? '^node /opt/ambit/agent/main.js' : '^/bin/sh /opt/ambit/agent/supervise';
    await this.bed.nodeExec(node, ['pkill', '-KILL', '-o', '-f', pattern]);
  }

  /** Everything of the network in the namespace of the pod with this address that the mesh may change, as text. */
  async podNetwork(node: string, address: string): Promise<string> {
    return await this.bed.nodeExec(node, ['sh', '-c', POD_NETWORK, 'sh', address]);
  }
}

/** Addresses come with a blank before and a slash behind. */
const POD_NETWORK = `
for netns in /var/run/netns/*; do
  nsenter --net="$netns" ip -4 -o addr show | grep -q " $1/" || continue
  nsenter --net="$netns" sh -c '
    echo "# rules"; nft list ruleset
    echo "# policy routing"; ip rule; ip -6 rule
    echo "# routes"; ip route show table all; ip -6 route show table all
    echo "# listeners"; ss -Hltn | sort
  ' | grep -v "expires"
  exit 0
done
echo "no namespace has the address $1" >&2
exit 1
`;

async function openBed(): Promise<Bed> {
  const cluster: Cluster = await openCluster();
  if (cluster instanceof Bed) return cluster;
  await cluster[Symbol.asyncDispose]();
  throw new Error('needs the bed, not another cluster');
}

async function build(tag: string): Promise<void> {
  await using sources = await ImageSources.copy();
  await sources.build({ tag: `localhost/ambit:${tag}` });
}
