/**
 * A certificate from a folder: `key.pem`, `cert-chain.pem` (leaf first) and `root-cert.pem`, as Istio's tools write
 * them. For one workload, and without a CA. The files are read again at every renewal.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { assembleCertificate, type CertificateSource, type IssuedCertificate, splitPem } from './issued-certificate.ts';

export class IdentityDirectory implements CertificateSource {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async fetch(identity: SpiffeId): Promise<IssuedCertificate> {
    try {
      const [key, chain, roots] = await Promise.all([
        this.#read('key.pem'),
        this.#read('cert-chain.pem'),
        this.#read('root-cert.pem'),
      ]);
      return assembleCertificate(identity, key, splitPem(chain), splitPem(roots));
    } catch (thrown) {
      throw toAmbitError(thrown, 'CA');
    }
  }

  async #read(file: string): Promise<string> {
    const path = join(this.#directory, file);
    try {
      return await readFile(path, 'utf8');
    } catch (thrown) {
      throw new AmbitError('CA', `cannot read ${path}`, { cause: thrown });
    }
  }
}
