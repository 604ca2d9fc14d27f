/** A cluster -> what the checks look at, page by page. Kinds that are not installed or may not be read are left out. */

import { type Collection, Collector } from '../../control/validation/collect.ts';
import { DEFAULT_ANALYSIS_SETTINGS } from '../../control/validation/view.ts';
import { isRecord } from '../../core/decoder.ts';
import { DATAPLANE_MODE_LABEL } from '../../core/enrolment/eligibility.ts';
import { isForbidden, isNotFound } from '../../kube/api-error.ts';
import { type KubeClient, PAGE_SIZE } from '../../kube/client.ts';
import { apiVersionOf, RESOURCES, type Resource, resourceName } from '../../kube/resource.ts';

/** Kinds that the checks look at. Secrets are not among them. */
const READ: readonly Resource[] = [
  RESOURCES.Namespace,
  RESOURCES.ServiceAccount,
  RESOURCES.Pod,
  RESOURCES.Service,
  RESOURCES.Gateway,
  RESOURCES.GatewayClass,
  RESOURCES.AuthorizationPolicy,
  RESOURCES.PeerAuthentication,
  RESOURCES.ServiceEntry,
  RESOURCES.WorkloadEntry,
  RESOURCES.NetworkPolicy,
];

/** What is used of the client. */
export type ListingClient = Pick<KubeClient, 'listPage' | 'list' | 'find'>;

export interface ClusterContents extends Collection {
  /** Kinds that may not be listed: what depends on them was not checked. */
  readonly forbidden: readonly string[];
}

/** Rejects with KUBERNETES_API when the cluster cannot be reached. */
export async function readCluster(
  client: ListingClient,
  rootNamespace: string,
  givenTrustDomain: string | undefined,
): Promise<ClusterContents> {
  const collector = new Collector();
  const forbidden: Resource[] = [];
  for (const resource of READ) {
    try {
      await eachItem(client, resource, (item) => collector.add(item));
    } catch (thrown) {
      if (isForbidden(thrown)) forbidden.push(resource);
      // The definition is not installed, so that there are no such objects.
      else if (!isNotFound(thrown)) throw thrown;
    }
  }
  await readLabelledControllers(client, collector);
  const trustDomain = givenTrustDomain ?? (await findTrustDomain(client, rootNamespace));
  const collection = collector.finish({
    complete: true,
    unknownKinds: new Set(forbidden.map(({ kind }) => kind)),
    settings: {
      ...DEFAULT_ANALYSIS_SETTINGS,
      rootNamespace,
      ...(trustDomain === undefined ? {} : { trustDomain }),
    },
  });
  return { ...collection, forbidden: forbidden.map(resourceName) };
}

/** Those that carry a label which only means something on pods. Nothing is said where they may not be listed. */
async function readLabelledControllers(client: ListingClient, collector: Collector): Promise<void> {
  for (const resource of [RESOURCES.Deployment, RESOURCES.DaemonSet]) {
    try {
      const { items } = await client.list(resource, { labelSelector: DATAPLANE_MODE_LABEL });
      for (const item of items) if (isRecord(item)) collector.addController({ ...item, kind: resource.kind });
    } catch (thrown) {
      if (!isForbidden(thrown)) throw thrown;
    }
  }
}

/** Items of a list do not say what they are. */
async function eachItem(client: ListingClient, resource: Resource, take: (item: unknown) => void): Promise<void> {
  const apiVersion = apiVersionOf(resource);
  for (let continueToken = ''; ; ) {
    const page = await client.listPage(resource, {}, { limit: PAGE_SIZE, continueToken });
    for (const item of page.items) if (isRecord(item)) take({ apiVersion, kind: resource.kind, ...item });
    if (page.continueToken === '') return;
    continueToken = page.continueToken;
  }
}

/** What the MeshConfig says; undefined when there is none that says it, or it may not be read. */
async function findTrustDomain(client: ListingClient, rootNamespace: string): Promise<string | undefined> {
  try {
    const found = await client.find(RESOURCES.ConfigMap, rootNamespace, 'istio');
    if (found === undefined) return undefined;
    const collector = new Collector();
    collector.add({ ...found, apiVersion: 'v1', kind: 'ConfigMap' });
    const { view } = collector.finish({ complete: true });
    for (const config of view.objects.all('MeshConfig')) return config.trustDomain;
    return undefined;
  } catch (thrown) {
    if (isForbidden(thrown)) return undefined;
    throw thrown;
  }
}
