/**
 * Users of a kubeconfig who get their token from a program (`exec`) or an `auth-provider`: @kubernetes/client-node knows
 * these. It weighs tens of megabytes and is loaded at the first call. Only people's command lines get here.
 */
import type { RequestOptions } from 'node:https';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import type { Credential, CredentialState } from './credential.ts';

interface PluginConfig {
  applyToHTTPSOptions(options: RequestOptions): Promise<void>;
}

/** The program is not asked again within this time, unless its answer was refused. */
const REUSE_MS = 10_000;

export class PluginCredential implements Credential {
  readonly server: string;
  readonly serverName: string | undefined;
  readonly #files: readonly string[];
  readonly #context: string;
  #config: Promise<PluginConfig> | undefined;
  #state: CredentialState | undefined;
  #stateMs = 0;

  constructor(files: readonly string[], context: string, server: string, serverName: string | undefined) {
    this.#files = files;
    this.#context = context;
    this.server = server;
    this.serverName = serverName;
  }

  async current(): Promise<CredentialState> {
    if (this.#state !== undefined && performance.now() - this.#stateMs < REUSE_MS) return this.#state;
    try {
      this.#config ??= this.#load();
      const options: RequestOptions = { headers: {} };
      await (await this.#config).applyToHTTPSOptions(options);
      this.#state = stateOf(options);
    } catch (thrown) {
      this.#config = undefined;
      const { message } = toAmbitError(thrown, 'CONFIGURATION');
      throw new AmbitError('CONFIGURATION', `the credential plug-in of ${this.#context} failed: ${message}`, {
        cause: thrown,
      });
    }
    this.#stateMs = performance.now();
    return this.#state;
  }

  refused(): void {
    this.#state = undefined;
    this.#config = undefined;
  }

  async #load(): Promise<PluginConfig> {
    const { KubeConfig } = await import('@kubernetes/client-node/dist/config.js');
    const config = new KubeConfig();
    const [first, ...others] = this.#files;
    if (first !== undefined) config.loadFromFile(first);
    for (const file of others) {
      const next = new KubeConfig();
      next.loadFromFile(file);
      config.mergeConfig(next, true);
    }
    config.setCurrentContext(this.#context);
    return config;
  }
}

function stateOf({ ca, cert, key, headers }: RequestOptions): CredentialState {
  const authorization =
    headers === undefined || Array.isArray(headers) ? undefined : Object.entries(headers).find(isAuthorization)?.[1];
  return {
    ca: pem(ca),
    cert: pem(cert),
    key: pem(key),
    authorization: typeof authorization === 'string' ? authorization : undefined,
  };
}

function isAuthorization([name]: readonly [string, unknown]): boolean {
  return name.toLowerCase() === 'authorization';
}

function pem(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : undefined;
}
