/**
 * Who may call, and what identities they are given: authentication, the certificate authority with its RPC, and the
 * certificate of the control plane's own port, all kept alive by one timer.
 */
import { join } from 'node:path';
import { IstioCertificateService } from '../api/gen/istio/v1/auth/ca_pb.js';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { methodDefinition } from '../core/grpc.ts';
import { logger } from '../core/log.ts';
import { CallAuthentication } from './authentication.ts';
import { CertificateAuthority } from './ca/authority.ts';
import { CertificateService } from './ca/certificate-service.ts';
import { ROTATION_POLICY } from './ca/rotation.ts';
import type { ControlConfig } from './config.ts';
import type { ControlMetrics } from './metrics.ts';
import type { ObjectStore } from './model/object-store.ts';
import type { Part } from './part.ts';
import { RateLimit } from './rate-limit.ts';
import { RenewingServerCredentials } from './server-certificate.ts';
import { openTokenKey, TokenAuthenticator } from './tokens.ts';

const log = logger('control');

/** How often certificates and roots are looked at. */
const MAINTENANCE_MS = 30_000;

export class Identity implements Part {
  readonly name = 'identity';
  readonly authority: CertificateAuthority;
  readonly certificates: CertificateService;
  readonly authentication: CallAuthentication;
  readonly credentials: RenewingServerCredentials;
  #maintenance: NodeJS.Timeout | undefined;

  /** Throws when the CA or the key of tokens cannot be opened. */
  constructor(config: ControlConfig, store: ObjectStore, metrics: ControlMetrics) {
    const { stateDir } = config;
    if (stateDir === undefined) throw new AmbitError('USAGE', 'the CA needs a state folder');
    this.authority = new CertificateAuthority(stateDir, config.trustDomain, {
      ...ROTATION_POLICY,
      rootLifetimeMs: config.rootLifetimeMs,
      distributionMs: config.rootDistributionMs,
      maxLeafLifetimeMs: config.maxLifetimeMs,
    });
    this.certificates = new CertificateService(
      this.authority,
      {
        trustDomain: config.trustDomain,
        trustedNodeAccounts: new Set(config.trustedNodeAccounts),
        nodeRuns: (node, namespace, serviceAccount) => store.nodeRuns(node, namespace, serviceAccount),
      },
      config,
      new RateLimit({ burst: config.certificateBurst, perSecond: config.certificatesPerSecond, maxKeys: 10_000 }),
      metrics,
    );
    if (config.rootDistributionMs * 2 < config.maxLifetimeMs) {
      log.warn(
        'the distribution time of roots is less than half of the longest lifetime: some agents may miss a rotation',
      );
    }
    const key = openTokenKey(config.tokenKey ?? join(stateDir, 'token-key.pem'));
    const certificatePath = methodDefinition(IstioCertificateService.method.createCertificate).path;
    this.authentication = new CallAuthentication(new TokenAuthenticator(key), (path) => {
      if (path === certificatePath) metrics.authenticationFailures.inc();
    });
    this.credentials = new RenewingServerCredentials(this.authority, serverNames(config));
  }

  async start(): Promise<void> {
    this.#maintenance = setInterval(() => this.#maintain(), MAINTENANCE_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#maintenance);
  }

  pending(): readonly string[] {
    return [];
  }

  /** Begins a rotation of the root now, for an operator who has a reason. */
  rotateRoot(): void {
    try {
      if (!this.authority.rotate()) log.warn('a rotation of the root is under way already');
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the rotation of the root could not begin');
    }
  }

  #maintain(): void {
    try {
      if (this.authority.maintain()) this.credentials.renew();
      else this.credentials.renewIfDue();
    } catch (thrown) {
      log.error(
        { reason: thrown instanceof Error ? thrown.message : String(thrown) },
        'certificate maintenance failed',
      );
    }
  }
}

/** The names under which clients may know this control plane. */
function serverNames(config: ControlConfig): string[] {
  const { ip } = config.listen;
  return [
    ...config.serverNames,
    ...(ip === '0.0.0.0' || ip === '::' ? [] : [ip]),
    `istiod.${config.rootNamespace}.svc`,
    `istiod.${config.rootNamespace}.svc.${config.clusterDomain}`,
  ];
}
