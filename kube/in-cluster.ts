/** The credential that Kubernetes mounts into every pod: address from the environment, root and token from files. */
import { existsSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import type { Credential, CredentialState } from './credential.ts';
import { FileContent } from './file-content.ts';

export const SERVICE_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

export class InClusterCredential implements Credential {
  readonly server: string;
  readonly serverName = undefined;
  readonly #ca: FileContent;
  readonly #token: FileContent;

  constructor(host: string, port: string, folder: string = SERVICE_ACCOUNT_FOLDER) {
    this.server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;
    this.#ca = new FileContent(join(folder, 'ca.crt'));
    this.#token = new FileContent(join(folder, 'token'));
  }

  async current(): Promise<CredentialState> {
    return {
      ca: this.#ca.read(),
      cert: undefined,
      key: undefined,
      authorization: `Bearer ${this.#token.read()}`,
    };
  }

  refused(): void {
    this.#ca.expire();
    this.#token.expire();
  }
}

/** Undefined outside of a pod. */
export function findInClusterCredential(
  environment: NodeJS.ProcessEnv = process.env,
  folder: string = SERVICE_ACCOUNT_FOLDER,
): InClusterCredential | undefined {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '443' } = environment;
  if (host === '' || !existsSync(join(folder, 'token'))) return undefined;
  return new InClusterCredential(host, port, folder);
}
