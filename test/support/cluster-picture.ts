/** A picture of a cluster: objects by kind, for tests of what commands make of them. */
import type { ClusterReader } from '../../cli/check/world.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';

export type PictureObjects = Partial<Record<keyof typeof RESOURCES, readonly unknown[]>>;

/** An API server that has these objects, for what only reads. */
export function clusterPicture(
  objects: PictureObjects,
  more: { version?: unknown; allowed?: boolean } = {},
): ClusterReader {
  const all = (plural: string): KubeObject[] =>
    Object.entries(RESOURCES)
      .filter(([, resource]) => resource.plural === plural)
      .flatMap(([kind]) => Object.entries(objects).find(([name]) => name === kind)?.[1] ?? [])
      .flatMap((value) => kubeObject(value) ?? []);
  return {
    server: 'https://api.test',
    request: async () => more.version ?? { gitVersion: 'v1.34.4', minor: '34' },
    list: async (resource, selection) => {
      const items = all(resource.plural).filter(
        ({ metadata }) => !selection?.namespace || metadata.namespace === selection.namespace,
      );
      return { items, resourceVersion: '1', continueToken: '' };
    },
    listPage: async (resource) => ({ items: all(resource.plural), resourceVersion: '1', continueToken: '' }),
    find: async (resource, namespace, name) =>
      all(resource.plural).find(({ metadata }) => metadata.name === name && (metadata.namespace ?? '') === namespace),
    review: async () => ({ status: { allowed: more.allowed ?? true } }),
  };
}
