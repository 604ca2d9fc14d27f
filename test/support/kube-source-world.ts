/** The world of the source contract on a real API server, and namespaces that really go away. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { KubernetesSourceTimes } from '../../control/sources/kubernetes.ts';
import { KubernetesSource } from '../../control/sources/kubernetes.ts';
import { KubeClient } from '../../kube/client.ts';
import { RESOURCES } from '../../kube/resource.ts';
import type { KubeApi } from './kube-api.ts';
import type { SmallObject, SourceWorld } from './source-contract.ts';

/** Short, so that tests of outages are. */
export const FAST_TIMES: Partial<KubernetesSourceTimes> = {
  firstBackoffMs: 20,
  maxBackoffMs: 300,
  absentBackoffMs: 200,
  healthyMs: 200,
  goneMs: 600,
};

/** An annotation of the mesh that is longer than a text may be: accepted by the API server, not by the decoder. */
const UNREADABLE = 'x'.repeat(70_000);

export class KubeWorld implements SourceWorld {
  readonly source: KubernetesSource;
  readonly client: KubeClient;
  readonly #api: KubeApi;

  constructor(api: KubeApi, kubeconfig: string = api.kubeconfig, times: Partial<KubernetesSourceTimes> = FAST_TIMES) {
    this.#api = api;
    this.client = KubeClient.open({ kubeconfig, userAgent: 'ambit-test' });
    this.source = new KubernetesSource(this.client, { rootNamespace: 'istio-system', times });
  }

  async put({ name, label }: SmallObject): Promise<void> {
    await this.#apply(name, { labels: { l: label } });
  }

  async spoil(name: string): Promise<void> {
    await this.#apply(name, { labels: { l: 'spoilt' }, annotations: { 'ambit.io/spoilt': UNREADABLE } });
  }

  async remove(name: string): Promise<void> {
    await removeNamespace(this.#api, name);
  }

  async #apply(name: string, metadata: object): Promise<void> {
    const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { ...metadata, name } };
    await this.#api.admin().apply(RESOURCES.Namespace, '', name, body, { fieldManager: 'test', force: true });
  }
}

/** A kubeconfig of the administrator by way of another port. */
export function kubeconfigVia(api: KubeApi, port: number): string {
  const path = `${api.kubeconfig}.${port}`;
  writeFileSync(path, readFileSync(api.kubeconfig, 'utf8').replaceAll(`127.0.0.1:${api.port}`, `127.0.0.1:${port}`));
  return path;
}

/** Deletes a namespace to the end: there is no controller that would. */
export async function removeNamespace(api: KubeApi, name: string): Promise<void> {
  await api.call('DELETE', `/api/v1/namespaces/${name}`);
  const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name }, spec: { finalizers: [] } };
  await api.call('PUT', `/api/v1/namespaces/${name}/finalize`, body);
}
