/**
 * What checks look at: the objects of the cluster, each kind fetched once, and what the agents say about their nodes.
 * Reads only, with the rights of whoever runs the command; what may not be read is an error of the check that wanted it.
 */
import type { KubeClient } from '../../kube/client.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { RESOURCES, type Resource } from '../../kube/resource.ts';

/** What is used of the client: reading, and reviews, which store nothing. */
export type ClusterReader = Pick<KubeClient, 'server' | 'request' | 'list' | 'find' | 'review'>;

export interface WorldOptions {
  readonly client: ClusterReader;
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
  readonly #lists = new Map<string, Promise<readonly KubeObject[]>>();

  constructor(options: WorldOptions) {
    this.client = options.client;
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
}
