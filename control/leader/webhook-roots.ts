/**
 * Writes the roots that the API server verifies our webhook with into its configuration: when they change, and again when
 * somebody took them out (an upgrade of the release). Where there is no configuration there is nothing to do.
 */
import type { KubeClient } from '../../kube/client.ts';
import { RESOURCES } from '../../kube/resource.ts';
import type { RootStore } from '../ca/root-store.ts';
import { caBundlePatch } from '../webhook/configuration.ts';
import { QueuedTask } from './queued-task.ts';

const INTERVAL_MS = 10_000;

export class WebhookRoots extends QueuedTask {
  readonly name = 'webhook-roots';
  readonly #client: KubeClient;
  readonly #store: RootStore;
  /** Of the ValidatingWebhookConfiguration. */
  readonly #configuration: string;
  #unsubscribe: (() => void) | undefined;

  constructor(client: KubeClient, store: RootStore, configuration: string) {
    super();
    this.#client = client;
    this.#store = store;
    this.#configuration = configuration;
  }

  protected begin(): void {
    this.#unsubscribe = this.#store.onChange(() => this.add(this.#configuration));
    this.add(this.#configuration);
  }

  override async stop(): Promise<void> {
    this.#unsubscribe?.();
    await super.stop();
  }

  protected async run(name: string, signal: AbortSignal): Promise<void> {
    const resource = RESOURCES.ValidatingWebhookConfiguration;
    const found = await this.#client.find(resource, '', name, { signal });
    const patch = found === undefined ? undefined : caBundlePatch(found, this.#store.material.rootsPem);
    if (patch !== undefined) await this.#client.jsonPatch(resource, '', name, patch, { signal });
    this.addAfter(name, INTERVAL_MS);
  }
}
