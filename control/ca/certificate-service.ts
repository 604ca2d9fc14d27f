/**
 * `istio.v1.auth.IstioCertificateService`: one request from an authenticated caller to a signed chain.
 *
 * Order: rate of the caller, identity, lifetime, request, rate of issuance, signature; every outcome is one audit line
 * and one count. What the peer is told follows istiod: refusals of an identity are as opaque as failed authentication.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from '../../api/gen/istio/v1/auth/ca_pb.js';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { type Caller, callerKey } from '../authentication.ts';
import type { ControlMetrics } from '../metrics.ts';
import type { CertificateAuthority } from './authority.ts';
import { readCertificateRequest } from './certificate-request.ts';
import type { IssuanceRates } from './issuance-rates.ts';
import { NewsWait } from './news-wait.ts';
import { authorizeIdentity, type IdentityVerdict, type NodeAuthorizationRules } from './node-authorization.ts';

export interface IssuanceLimits {
  readonly defaultLifetimeMs: number;
  readonly maxLifetimeMs: number;
}

/** What a peer is told. */
export interface Refusal {
  readonly code: status;
  readonly details: string;
}

export type CertificateAnswer =
  | { readonly kind: 'issued'; readonly response: IstioCertificateResponse }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

const log = logger('ca');

export class CertificateService {
  readonly #authority: CertificateAuthority;
  readonly #rules: NodeAuthorizationRules;
  readonly #limits: IssuanceLimits;
  readonly #rates: IssuanceRates;
  readonly #metrics: ControlMetrics;
  readonly #newsWait = new NewsWait();

  constructor(
    authority: CertificateAuthority,
    rules: NodeAuthorizationRules,
    limits: IssuanceLimits,
    rates: IssuanceRates,
    metrics: ControlMetrics,
  ) {
    this.#authority = authority;
    this.#rules = rules;
    this.#limits = limits;
    this.#rates = rates;
    this.#metrics = metrics;
  }

  /** Never rejects. A caller whose pod is not known yet is answered up to a second later. */
  async answer(caller: Caller, request: IstioCertificateRequest, peer: string): Promise<CertificateAnswer> {
    this.#metrics.csrCount.inc();
    const account = `${caller.namespace}/${caller.serviceAccount}`;
    const facts = { peer, caller: account, node: caller.node, pod: caller.pod?.name, how: caller.how };
    try {
      const key = callerKey(caller);
      this.#rates.countRequest(key);
      const verdict = await this.#authorize(key, caller, requestedIdentity(request));
      if (verdict.kind === 'refused') throw new AmbitError(verdict.code, verdict.reason);
      const { identity } = verdict;
      const lifetimeMs = this.#lifetimeMs(request.validityDuration);
      const publicKey = readCertificateRequest(request.csr);
      this.#rates.countIssuance(key, identity);
      const issued = this.#authority.issueWorkload(identity, publicKey, lifetimeMs);
      this.#metrics.issued.inc();
      const notAfter = new Date(issued.notAfterMs).toISOString();
      const { serial } = issued;
      log.info(
        { ...facts, identity, serial, notAfter, keyType: keyTypeOf(publicKey), spki: fingerprint(publicKey) },
        'certificate issued',
      );
      const response = create(IstioCertificateResponseSchema, { certChain: [...issued.chain] });
      return { kind: 'issued', response };
    } catch (thrown) {
      const error = toAmbitError(thrown, 'CA');
      this.#count(error);
      // Beyond its limit a caller must not be able to fill a disk either; the count tells.
      const level = error.code === 'RATE_LIMITED' ? 'debug' : 'warn';
      log[level]({ ...facts, code: error.code, reason: error.message }, 'certificate refused');
      return { kind: 'refused', refusal: refusalOf(error) };
    }
  }

  #authorize(key: string, caller: Caller, requested: string | undefined): Promise<IdentityVerdict> {
    return this.#newsWait.until(
      key,
      () => authorizeIdentity(caller, requested, this.#rules),
      (verdict) => verdict.kind === 'granted' || !verdict.transient,
    );
  }

  #lifetimeMs(seconds: bigint): number {
    if (seconds === 0n) return this.#limits.defaultLifetimeMs;
    const maxSeconds = BigInt(Math.floor(this.#limits.maxLifetimeMs / 1000));
    if (seconds < 0n || seconds > maxSeconds) {
      throw new AmbitError('BAD_REQUEST', `the lifetime must be between 1 and ${maxSeconds} seconds`);
    }
    return Number(seconds) * 1000;
  }

  #count(error: AmbitError): void {
    switch (error.code) {
      case 'FORBIDDEN':
        this.#metrics.authenticationFailures.inc();
        break;
      case 'TRUST_DOMAIN':
        this.#metrics.identityErrors.inc();
        break;
      case 'BAD_REQUEST':
        this.#metrics.csrParsingErrors.inc();
        break;
      case 'RATE_LIMITED':
        this.#metrics.signErrors.inc({ error: 'rate_limited' });
        break;
      default:
        this.#metrics.signErrors.inc({ error: 'internal' });
    }
  }
}

function requestedIdentity(request: IstioCertificateRequest): string | undefined {
  const { metadata = {} } = request;
  if (metadata.CertSigner !== undefined) throw new AmbitError('BAD_REQUEST', 'this CA has no other signers');
  const requested = metadata.ImpersonatedIdentity;
  if (requested === undefined) return undefined;
  if (typeof requested !== 'string') throw new AmbitError('BAD_REQUEST', 'ImpersonatedIdentity must be a string');
  return requested;
}

function refusalOf(error: AmbitError): Refusal {
  switch (error.code) {
    case 'FORBIDDEN':
    case 'TRUST_DOMAIN':
      return { code: status.UNAUTHENTICATED, details: 'request authenticate failure' };
    case 'BAD_REQUEST':
      return { code: status.INVALID_ARGUMENT, details: error.message };
    case 'RATE_LIMITED':
      return { code: status.RESOURCE_EXHAUSTED, details: 'too many requests' };
    default:
      return { code: status.INTERNAL, details: 'the CA cannot sign now' };
  }
}

/** `rsa-2048`, `prime256v1`: what an audit counts. */
function keyTypeOf(key: KeyObject): string {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  return namedCurve ?? `${key.asymmetricKeyType}-${modulusLength}`;
}

/** SHA-256 of the public key, so that an audit can tell certificates of one key from those of another. */
function fingerprint(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}
