/**
 * What checks look at: the objects of the cluster, each kind fetched once, what the agents say about their nodes, what the
 * control plane says about its clients, and what an analysis of the objects finds. Reads only, with the rights of
 * whoever runs the command; what may not be read is an error of the check that wanted it.
 */
import { analyze, sorted } from '../../control/validation/analyze.ts';
import type { Finding } from '../../control/validation/finding.ts';
import { AmbitError } from '../../core/errors.ts';
import type { KubeClient } from '../../kube/client.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { RESOURCES, type Resource } from '../../kube/resource.ts';
import { type AgentReports, askAgents, type ReadPage, readControlView, servingAgents } from '../agents.ts';
import { readCluster } from '../analyze/cluster.ts';
import { type ProxyStatusRow, rowsOf } from '../proxy-status.ts';
import { at, labelOf } from './fields.ts';

/** What is used of the client: reading, and reviews, which store nothing. */
export type ClusterReader = Pick<KubeClient, 'server' | 'request' | 'list' | 'listPage' | 'find' | 'review'>;

export interface WorldOptions {
  readonly client: ClusterReader;
  /** Pages of agents and of the control plane; absent: they are not asked. */
  readonly pages?: ReadPage;
  /** Namespace of the control plane and of the agents. */
  readonly namespace: string;
  /** Only this node is looked at; undefined: all. */
  readonly node: string | undefined;
  readonly nowMs: () => number;
}

export class CheckWorld {
  readonly client: ClusterReader;
  readonly namespace: string;
  readonly node: string | undefined;
  readonly nowMs: () => number;
  readonly #pages: ReadPage | undefined;
  readonly #lists = new Map<string, Promise<readonly KubeObject[]>>();
  #reports: Promise<AgentReports> | undefined;
  #findings: Promise<readonly Finding[]> | undefined;

  constructor(options: WorldOptions) {
    this.client = options.client;
    this.#pages = options.pages;
    this.namespace = options.namespace;
    this.node = options.node;
    this.nowMs = options.nowMs;
  }

  /** All objects of a kind, or those of one namespace. Rejects with a KubernetesApiError. */
  list(resource: Resource, namespace = ''): Promise<readonly KubeObject[]> {
    const key = `${resource.group}/${resource.plural}/${namespace}`;
    const known = this.#lists.get(key);
    if (known !== undefined) return known;
    const listing = this.client
      .list(resource, { namespace })
      .then(({ items }) => items.flatMap((item) => kubeObject(item) ?? []));
    this.#lists.set(key, listing);
    return listing;
  }

  /** The nodes that are looked at. */
  async nodes(): Promise<readonly KubeObject[]> {
    const nodes = await this.list(RESOURCES.Node);
    return this.node === undefined ? nodes : nodes.filter(({ metadata }) => metadata.name === this.node);
  }

  /** What the agent of each node says, asked once; agents try every pod for it. Rejects where nobody can be asked. */
  nodeReports(): Promise<AgentReports> {
    this.#reports ??= this.#askAgents();
    return this.#reports;
  }

  /** The clients of every replica of the control plane that answers. Rejects when one does not. */
  async proxyStatus(): Promise<readonly ProxyStatusRow[]> {
    const read = this.#reader();
    const replicas = await this.#meshPods('ambit-control');
    const rows = await Promise.all(
      replicas.map(async ({ metadata: { name } }) =>
        rowsOf(name, await readControlView(read, this.namespace, name, 'clients')),
      ),
    );
    return rows.flat();
  }

  /** What `ambit analyze` says about the cluster, worst first. */
  findings(): Promise<readonly Finding[]> {
    this.#findings ??= readCluster(this.client, this.namespace, undefined).then(({ view, findings }) =>
      sorted([...findings, ...analyze(view)]),
    );
    return this.#findings;
  }

  async #askAgents(): Promise<AgentReports> {
    const read = this.#reader();
    const pods = await this.#meshPods('ambit-agent');
    const agents = servingAgents(pods).filter(({ node }) => this.node === undefined || node === this.node);
    return await askAgents(read, agents, { probe: true, nowMs: this.nowMs });
  }

  #reader(): ReadPage {
    if (this.#pages !== undefined) return this.#pages;
    throw new AmbitError('ADMIN_UNREACHABLE', 'nobody can be asked before the installation');
  }

  async #meshPods(name: string): Promise<readonly KubeObject[]> {
    const pods = await this.list(RESOURCES.Pod, this.namespace);
    return pods
      .filter((pod) => labelOf(pod, 'app.kubernetes.io/name') === name)
      .filter((pod) => at(pod.metadata, 'deletionTimestamp') === undefined);
  }
}
