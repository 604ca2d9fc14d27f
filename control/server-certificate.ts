/**
 * The TLS identity of the control plane's own port: a short-lived certificate of its own CA, renewed without a restart.
 *
 * Clients may bring a certificate; nobody has to. One that our roots do not vouch for counts as none.
 */
import { isIP } from 'node:net';
import { type ServerCredentials as Credentials, ServerCredentials } from '@grpc/grpc-js';
import { logger } from '../core/log.ts';
import type { CertificateAuthority } from './ca/authority.ts';
import type { SubjectAltName } from './ca/certificate.ts';
import { RenewalTime } from './renewal-time.ts';

/** Of certificates of our own ports. */
export const SERVER_LIFETIME_MS = 24 * 3_600_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;

const log = logger('control');

/** Credentials whose certificate can be replaced; connections that stand keep theirs. TLS 1.3 only. Empty until `renew`. */
export class RenewingServerCredentials extends ServerCredentials {
  readonly #authority: CertificateAuthority;
  readonly #names: readonly SubjectAltName[];
  readonly #renewal = new RenewalTime();

  constructor(authority: CertificateAuthority, names: readonly string[]) {
    super({
      minVersion: 'TLSv1.3',
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      requestCert: true,
      rejectUnauthorized: false,
    });
    this.#authority = authority;
    this.#names = subjectNames(names);
  }

  /**
   * Issues a new certificate and uses it, and the roots of this moment, for every handshake from now on. Throws CA when
   * nothing can sign.
   */
  renew(): void {
    const issued = this.#authority.issueServer(this.#names, SERVER_LIFETIME_MS);
    this.#renewal.issued(issued.notAfterMs);
    this.updateSecureContextOptions({
      cert: issued.certificatePem,
      key: issued.privateKeyPem,
      ca: this.#authority.rootsPem(),
    });
    log.info({ notAfter: new Date(issued.notAfterMs).toISOString() }, 'server certificate issued');
  }

  /** Renews when it is time. Call it often. */
  renewIfDue(): void {
    if (this.#renewal.isDue) this.renew();
  }

  override _equals(other: Credentials): boolean {
    return this === other;
  }
}

/** Names and addresses as they stand in a certificate, each once. */
export function subjectNames(names: readonly string[]): readonly SubjectAltName[] {
  return [...new Set(names)].map((value) => ({ kind: isIP(value) === 0 ? 'dns' : 'ip', value }));
}
