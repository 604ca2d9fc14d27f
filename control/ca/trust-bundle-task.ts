/**
 * Keeps the ClusterTrustBundle with the roots as it shall be, where the API server has such objects (beta and behind a
 * feature gate): whether it has is looked at again now and then. A task of the leader.
 */
import { decode, list, object, string } from '../../core/decoder.ts';
import { isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { RESOURCES, type Resource } from '../../kube/resource.ts';
import { QueuedTask } from '../leader/queued-task.ts';
import type { RootStore } from './root-store.ts';
import { isTrustBundleAsWanted, TRUST_BUNDLE_NAME, trustBundleOf } from './trust-distribution.ts';
import { FIELD_MANAGER } from './trust-distributor.ts';

const KEY = 'bundle';
const VERSIONS = ['v1', 'v1beta1', 'v1alpha1'];

export interface TrustBundleTimes {
  /** A bundle that stands is looked at again: one edited by hand is written again. */
  readonly checkMs: number;
  /** An API server without such objects is asked again. */
  readonly absentMs: number;
}

export const TRUST_BUNDLE_TIMES: TrustBundleTimes = { checkMs: 60_000, absentMs: 600_000 };

const resources = object({ resources: list(object({ name: string }, 'ignore')) }, 'ignore');

export class TrustBundleTask extends QueuedTask {
  readonly name = 'trust bundle';
  readonly #client: KubeClient;
  readonly #store: RootStore;
  readonly #times: TrustBundleTimes;
  #unsubscribe: (() => void) | undefined;

  constructor(client: KubeClient, store: RootStore, times: TrustBundleTimes = TRUST_BUNDLE_TIMES) {
    super();
    this.#client = client;
    this.#store = store;
    this.#times = times;
  }

  protected begin(): void {
    this.#unsubscribe = this.#store.onChange(() => this.add(KEY));
    this.add(KEY);
  }

  override async stop(): Promise<void> {
    this.#unsubscribe?.();
    await super.stop();
  }

  protected async run(_key: string, signal: AbortSignal): Promise<void> {
    const resource = await this.#findResource(signal);
    if (resource !== undefined) await this.#write(resource, signal);
    this.addAfter(KEY, resource === undefined ? this.#times.absentMs : this.#times.checkMs);
  }

  async #write(resource: Resource, signal: AbortSignal): Promise<void> {
    const { rootsPem } = this.#store.material;
    if (rootsPem === '') return;
    const standing = await this.#client.find(resource, '', TRUST_BUNDLE_NAME, { signal });
    if (isTrustBundleAsWanted(standing, rootsPem)) return;
    const options = { fieldManager: FIELD_MANAGER, force: true, signal };
    await this.#client.apply(resource, '', TRUST_BUNDLE_NAME, trustBundleOf(resource, rootsPem), options);
  }

  /** The newest version that the API server has; undefined: none. */
  async #findResource(signal: AbortSignal): Promise<Resource | undefined> {
    const { group, plural } = RESOURCES.ClusterTrustBundle;
    for (const version of VERSIONS) {
      const body = await this.#client
        .request({ method: 'GET', path: `/apis/${group}/${version}`, signal })
        .catch((thrown: unknown) => {
          if (isNotFound(thrown)) return undefined;
          throw thrown;
        });
      const decoded = decode(resources, body);
      const known = decoded.ok && decoded.value.resources.some(({ name }) => name === plural);
      if (known) return { ...RESOURCES.ClusterTrustBundle, version };
    }
    return undefined;
  }
}
