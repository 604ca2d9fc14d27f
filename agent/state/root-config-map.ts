/**
 * The roots of the control plane as it publishes them: a ConfigMap in the namespace of the agent. kubelet mounts it as a file,
 * but not before it exists, and then only some time later; an agent that starts together with its control plane asks here
 * meanwhile. What it trusts is the same either way: the API server said so.
 */
import { isRecord } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import { AGENT_VERSION } from '../../core/version.ts';
import { KubeClient } from '../../kube/client.ts';
import type { KubeObject } from '../../kube/object.ts';
import { RESOURCES } from '../../kube/resource.ts';

/** Every certificate request asks for the roots: an answer serves those of this time, so that a rotation is still seen soon. */
const KEPT_MS = 5_000;
const TIMEOUT_MS = 5_000;
const KEY = 'root-cert.pem';

export interface RootConfigMapOptions {
  readonly kubeconfig: string | undefined;
  readonly namespace: string;
  readonly name: string;
}

export class RootConfigMap {
  readonly #options: RootConfigMapOptions;
  #known: { readonly pem: string; readonly atMs: number } | undefined;

  constructor(options: RootConfigMapOptions) {
    this.#options = options;
  }

  /** PEM. Rejects with `KUBERNETES_API` when the server cannot be asked, with `CONFIGURATION` while there are no roots. */
  async read(): Promise<string> {
    const known = this.#known;
    if (known !== undefined && performance.now() - known.atMs < KEPT_MS) return known.pem;
    const pem = await this.#ask();
    this.#known = { pem, atMs: performance.now() };
    return pem;
  }

  async #ask(): Promise<string> {
    const { kubeconfig, namespace, name } = this.#options;
    const client = KubeClient.open({ kubeconfig, userAgent: `ambit-agent/${AGENT_VERSION}` });
    try {
      const found = await client.find(RESOURCES.ConfigMap, namespace, name, { timeoutMs: TIMEOUT_MS });
      const pem = readRoot(found);
      if (pem === undefined) throw new AmbitError('CONFIGURATION', `no roots yet in ConfigMap ${namespace}/${name}`);
      return pem;
    } finally {
      client.close();
    }
  }
}

function readRoot(configMap: KubeObject | undefined): string | undefined {
  const data = configMap?.data;
  const pem = isRecord(data) ? data[KEY] : undefined;
  return typeof pem === 'string' && pem !== '' ? pem : undefined;
}
