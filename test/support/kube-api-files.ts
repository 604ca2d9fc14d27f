/**
 * What an API server of the tests needs on disk: its certificates, the key of its service account tokens, and the
 * kubeconfig files of its users. Everything is made anew for each server and lives in its folder.
 */
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority, type LeafOptions, type TestAuthority, type TestLeaf } from './pki.ts';

export interface KubeUser {
  readonly user: string;
  readonly groups?: readonly string[];
}

export class KubeApiFiles {
  readonly folder: string;
  readonly authority: TestAuthority = createAuthority('kubernetes');
  readonly admin: TestLeaf;
  readonly #url: string;
  #written = 0;

  constructor(folder: string, url: string) {
    this.folder = folder;
    this.#url = url;
    this.admin = this.#issue({ commonName: 'kubernetes-admin', organizations: ['system:masters'] });
    const server = this.#issue({
      commonName: 'kube-apiserver',
      dnsNames: ['localhost', 'kubernetes', 'kubernetes.default.svc'],
      ipAddresses: ['127.0.0.1'],
    });
    this.#write('ca.crt', this.authority.pem);
    this.#write('server.crt', server.certificateChainPem);
    this.#write('server.key', server.privateKeyPem);
    const tokens = generateKeyPairSync('rsa', { modulusLength: 2048 });
    this.#write('tokens.key', tokens.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    this.#write('tokens.pub', tokens.publicKey.export({ type: 'spki', format: 'pem' }));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Path of a kubeconfig with a client certificate of this user. */
  certificateKubeconfig({ user, groups = [] }: KubeUser): string {
    const { certificateChainPem, privateKeyPem } = this.#issue({ commonName: user, organizations: groups });
    return this.#kubeconfig({
      'client-certificate-data': base64(certificateChainPem),
      'client-key-data': base64(privateKeyPem),
    });
  }

  /** Path of a kubeconfig with a bearer token. */
  tokenKubeconfig(token: string): string {
    return this.#kubeconfig({ token });
  }

  #issue(options: LeafOptions): TestLeaf {
    return this.authority.issue({ uris: [], ...options });
  }

  /** JSON is YAML. */
  #kubeconfig(user: Readonly<Record<string, string>>): string {
    const name = `kubeconfig-${++this.#written}`;
    const cluster = { server: this.#url, 'certificate-authority-data': base64(this.authority.pem) };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster }],
      users: [{ name: 'test', user }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      'current-context': 'test',
    };
    return this.#write(name, JSON.stringify(config));
  }

  #write(name: string, content: string | Buffer): string {
    writeFileSync(this.path(name), content, { mode: 0o600 });
    return this.path(name);
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
