/** Which client certificates are revoked, by the lists that the CA hands out now. Read again when they change. */
import type { X509Certificate } from 'node:crypto';
import { type ParsedCertificate, parseCertificates } from './ca/issuer-certificate.ts';
import { findRevocation, parseRevocationLists, type RevocationList } from './ca/revocation-list.ts';
import type { CaMaterial, RootStore } from './ca/root-store.ts';

interface Known {
  readonly material: CaMaterial;
  readonly lists: readonly RevocationList[];
  readonly authorities: readonly ParsedCertificate[];
}

export class Revocations {
  readonly #store: RootStore;
  #known: Known | undefined;

  constructor(store: RootStore) {
    this.#store = store;
  }

  /** Why the certificate is revoked; undefined: it is not. Throws CONFIGURATION when the lists cannot be read. */
  reason(certificate: X509Certificate): string | undefined {
    const { material, lists, authorities } = this.#read();
    if (material.crlPem === undefined) return undefined;
    return findRevocation(certificate, lists, authorities);
  }

  #read(): Known {
    const { material, description } = this.#store;
    if (this.#known?.material === material) return this.#known;
    const chains = material.signers.flatMap(({ chain }) => chain).join('');
    const authorities = parseCertificates(`${material.rootsPem}${chains}`, description);
    const lists = parseRevocationLists(material.crlPem ?? '', authorities, `the revocation lists of ${description}`);
    this.#known = { material, lists, authorities };
    return this.#known;
  }
}
