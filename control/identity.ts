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
import { FileRootStore } from './ca/file-root-store.ts';
import { IssuanceRates } from './ca/issuance-rates.ts';
import { podFacts } from './ca/pod-view.ts';
import { ROTATION_POLICY } from './ca/rotation.ts';
import type { ControlConfig } from './config.ts';
import type { ControlMetrics } from './metrics.ts';
import type { ObjectStore } from './model/object-store.ts';
import type { Part } from './part.ts';
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
  /** Certificate of the own port; empty before `start`. */
  readonly credentials: RenewingServerCredentials;
  #open = false;
  #stopWatching: (() => void) | undefined;
  #maintenance: NodeJS.Timeout | undefined;

  /** Throws when the key of tokens cannot be opened. */
  constructor(config: ControlConfig, store: ObjectStore, metrics: ControlMetrics) {
    const { stateDir } = config;
    if (stateDir === undefined) throw new AmbitError('USAGE', 'the CA needs a state folder');
    this.authority = new CertificateAuthority(new FileRootStore(stateDir, config.trustDomain), {
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
        findPod: (namespace, name) => podFacts(store.find('Pod', namespace, name)),
      },
      config,
      new IssuanceRates(config),
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

  /** Rejects when the CA cannot be opened. */
  async start(): Promise<void> {
    await this.authority.open();
    this.credentials.renew();
    this.#open = true;
    this.#stopWatching = this.authority.store.onChange(() => this.#renew(() => this.credentials.renew()));
    this.#maintenance = setInterval(() => void this.#maintain(), MAINTENANCE_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#maintenance);
    this.#stopWatching?.();
    await this.authority.close();
  }

  pending(): readonly string[] {
    return !this.#open ? ['certificate authority'] : [];
  }

  /** Milliseconds since the epoch at which the signing root ends; undefined while none can sign. */
  rootExpiresMs(): number | undefined {
    if (!this.#open) return undefined;
    try {
      return this.authority.signingRoot().notAfterMs;
    } catch {
      return undefined;
    }
  }

  /** Begins a rotation of the root now, for an operator who has a reason. */
  async rotateRoot(): Promise<void> {
    try {
      if (!(await this.authority.rotate()))
        log.warn('a rotation of the root is under way already, or not ours to begin');
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the rotation of the root could not begin');
    }
  }

  async #maintain(): Promise<void> {
    this.#renew(() => this.credentials.renewIfDue());
    try {
      await this.authority.maintain();
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the roots of the CA could not be looked after');
    }
  }

  #renew(renew: () => void): void {
    try {
      renew();
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the server certificate could not be renewed');
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
