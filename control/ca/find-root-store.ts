/** Which store the CA of a cluster has: what is plugged in goes before what we make ourselves. */
import { logger } from '../../core/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import { PluginRootStore } from './plugin-root-store.ts';
import { isPluginFolder, PluginFolder, PluginSecret } from './plugin-source.ts';
import type { RootStore } from './root-store.ts';
import { SecretRootStore } from './secret-root-store.ts';

export interface RootStoreOptions {
  /** Where the Secrets are. */
  readonly namespace: string;
  readonly trustDomain: string;
  /** Where a CA may be mounted; undefined or empty of it: the Secrets are looked at. */
  readonly pluginFolder?: string | undefined;
}

const log = logger('ca');

/** Decides once, at the start. Rejects with KUBERNETES_API when the Secrets cannot be looked at. The store is not open yet. */
export async function findRootStore(client: KubeClient, options: RootStoreOptions): Promise<RootStore> {
  const store = await choose(client, options);
  log.info({ store: store.description, rotates: store.rotating !== undefined }, 'store of the CA chosen');
  return store;
}

async function choose(client: KubeClient, options: RootStoreOptions): Promise<RootStore> {
  const { namespace, trustDomain, pluginFolder } = options;
  if (pluginFolder !== undefined && isPluginFolder(pluginFolder))
    return new PluginRootStore(new PluginFolder(pluginFolder));
  const plugged = new PluginSecret(client, namespace);
  if ((await plugged.read()).size > 0) return new PluginRootStore(plugged);
  return new SecretRootStore(client, { namespace, organization: trustDomain });
}
