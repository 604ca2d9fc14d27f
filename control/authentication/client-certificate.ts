/**
 * Callers that bring a certificate: the identity in it is who they are. grpc-js hands a certificate over only where the
 * handshake has verified its chain against our roots; what remains is to read it as one of a workload of this mesh.
 */
import { X509Certificate } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { parseSpiffeId } from '../../core/spiffe.ts';
import type { Authenticator, Caller, PeerConnection } from '../authentication.ts';

/** Extended key usage (RFC 5280 section 4.2.1.12). */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

export interface ClientCertificateRules {
  readonly trustDomain: string;
  /** Why this certificate is revoked; undefined: it is not. */
  readonly revocation: (certificate: X509Certificate) => string | undefined;
}

export class ClientCertificateAuthenticator implements Authenticator {
  readonly #rules: ClientCertificateRules;
  readonly #now: () => number;

  /** `now`: milliseconds since the epoch. */
  constructor(rules: ClientCertificateRules, now: () => number = Date.now) {
    this.#rules = rules;
    this.#now = now;
  }

  async authenticate(_metadata: Metadata, connection?: PeerConnection): Promise<Caller> {
    if (connection?.certificate === undefined) {
      throw new AmbitError('AUTHENTICATION', 'no client certificate that our roots vouch for');
    }
    return callerOfCertificate(connection.certificate, this.#rules, this.#now());
  }
}

/** Reads a verified certificate (DER). The connection may be older than the certificate's end. Throws AUTHENTICATION. */
export function callerOfCertificate(der: Uint8Array, rules: ClientCertificateRules, nowMs: number): Caller {
  const certificate = parse(der);
  const refuse = (reason: string): AmbitError =>
    new AmbitError('AUTHENTICATION', `client certificate ${certificate.serialNumber}: ${reason}`);
  const expiresMs = certificate.validToDate.getTime();
  if (expiresMs <= nowMs || certificate.validFromDate.getTime() > nowMs) throw refuse('not valid now');
  if (certificate.ca) throw refuse('that of a CA');
  if (certificate.keyUsage !== undefined && !certificate.keyUsage.includes(CLIENT_AUTH))
    throw refuse('not for clients');
  // Exactly one name: Node.js separates several by a comma and quotes whatever could be mistaken for one.
  const uri = /^URI:(spiffe:\/\/[^\s,"]+)$/.exec(certificate.subjectAltName ?? '')?.[1];
  const identity = uri === undefined ? undefined : parseSpiffeId(uri);
  if (identity === undefined) throw refuse('its only name is not the identity of a workload');
  if (identity.trustDomain !== rules.trustDomain) throw refuse(`of the trust domain ${identity.trustDomain}`);
  const revocation = rules.revocation(certificate);
  if (revocation !== undefined) throw refuse(revocation);
  const { namespace, serviceAccount } = identity;
  return { namespace, serviceAccount, node: undefined, how: 'certificate', expiresMs };
}

function parse(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (thrown) {
    const reason = toAmbitError(thrown, 'AUTHENTICATION').message;
    throw new AmbitError('AUTHENTICATION', `the client certificate cannot be read: ${reason}`);
  }
}
