/** What a release leaves behind because it was made at run time: root certificates in namespaces, leases, and with `purge` the CA. */
import { isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { kubeObject } from '../../kube/object.ts';
import { RESOURCES, type Resource } from '../../kube/resource.ts';
import { labelOf, namespaceOf } from '../check/fields.ts';

const ROOT_MAPS: ReadonlySet<string> = new Set(['istio-ca-root-cert', 'istio-ca-crl']);
const DEFINITION_GROUPS = /\.(security|networking)\.istio\.io$/;

/** Resolves to a list for people; empty when there was nothing. */
export async function removeLeftovers(client: KubeClient, namespace: string, purge: boolean): Promise<string> {
  const removed: string[] = [];
  const maps = await select(client, RESOURCES.ConfigMap, '', ({ metadata }) => ROOT_MAPS.has(metadata.name));
  await removeAll(client, RESOURCES.ConfigMap, maps, `${maps.length} root certificates in namespaces`, removed);
  const leases = await select(client, RESOURCES.Lease, namespace, ({ metadata }) =>
    metadata.name.startsWith('ambit-control'),
  );
  await removeAll(client, RESOURCES.Lease, leases, 'the lease of the writer', removed);
  if (!purge) return removed.join(', ');
  const secrets = await select(
    client,
    RESOURCES.Secret,
    namespace,
    ({ metadata }) => metadata.name === 'istio-ca-secret',
  );
  await removeAll(client, RESOURCES.Secret, secrets, 'the root of the CA', removed);
  const definitions = await select(
    client,
    RESOURCES.CustomResourceDefinition,
    '',
    (one) => DEFINITION_GROUPS.test(one.metadata.name) && labelOf(one, 'app.kubernetes.io/part-of') === 'ambit',
  );
  await removeAll(client, RESOURCES.CustomResourceDefinition, definitions, 'the definitions of policies', removed);
  return removed.join(', ');
}

type Found = NonNullable<ReturnType<typeof kubeObject>>;

async function select(client: KubeClient, resource: Resource, namespace: string, wanted: (one: Found) => boolean) {
  const { items } = await client.list(resource, { namespace });
  return items.flatMap((item) => kubeObject(item) ?? []).filter(wanted);
}

async function removeAll(
  client: KubeClient,
  resource: Resource,
  found: readonly Found[],
  what: string,
  removed: string[],
): Promise<void> {
  for (const one of found) {
    try {
      await client.delete(resource, namespaceOf(one), one.metadata.name);
    } catch (thrown) {
      if (!isNotFound(thrown)) throw thrown;
    }
  }
  if (found.length > 0) removed.push(what);
}
