/**
 * Who may call, and what identities they are given: authentication, the certificate authority with its RPC, and the
 * certificate of the control plane's own port. They exist once the CA is open; where its store cannot be reached yet,
 * it is tried again for as long as it takes.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { IstioCertificateService } from '../api/gen/istio/v1/auth/ca_pb.js';
import { Backoff } from '../core/backoff.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { methodDefinition } from '../core/grpc.ts';
import { logger } from '../core/log.ts';
import { ClientCertificateAuthenticator } from './authentication/client-certificate.ts';
import { type Authenticator, AuthenticatorChain, CallAuthentication } from './authentication.ts';
import { CertificateAuthority, type ServerCertificate } from './ca/authority.ts';
import { CertificateService } from './ca/certificate-service.ts';
import { IssuanceRates } from './ca/issuance-rates.ts';
import { podFacts } from './ca/pod-view.ts';
import type { RootStore } from './ca/root-store.ts';
import { ROTATION_POLICY } from './ca/rotation.ts';
import type { ControlConfig } from './config.ts';
import type { ControlMetrics } from './metrics.ts';
import type { ObjectStore } from './model/object-store.ts';
import type { Part } from './part.ts';
import { Revocations } from './revocations.ts';
import { RenewingServerCredentials, SERVER_LIFETIME_MS, subjectNames } from './server-certificate.ts';

const log = logger('control');

/** How often the own certificate, and where nobody else does it the roots, are looked at. */
const MAINTENANCE_MS = 30_000;
const RETRY = { firstMs: 200, maxMs: 5_000 };

/** What depends on where the mesh lives: a cluster or a folder. */
export interface IdentityPlatform {
  /** Rejects with KUBERNETES_API where it may work later. */
  openRootStore(): Promise<RootStore>;
  /** How callers prove who they are, besides certificates of our own. */
  readonly tokens: Authenticator;
  /** True where this process is the only one: then it rotates the roots without being elected. */
  readonly alone: boolean;
}

/** All that exists once the CA is open. */
export interface OpenIdentity {
  readonly authority: CertificateAuthority;
  readonly certificates: CertificateService;
  readonly authentication: CallAuthentication;
  /** Of the own port. */
  readonly credentials: RenewingServerCredentials;
}

export class Identity implements Part {
  readonly name = 'identity';
  readonly #config: ControlConfig;
  readonly #platform: IdentityPlatform;
  readonly #store: ObjectStore;
  readonly #metrics: ControlMetrics;
  readonly #stop = new AbortController();
  #opened: OpenIdentity | undefined;
  #reason = '';
  #stopWatching: (() => void) | undefined;
  #maintenance: NodeJS.Timeout | undefined;

  constructor(config: ControlConfig, platform: IdentityPlatform, store: ObjectStore, metrics: ControlMetrics) {
    this.#config = config;
    this.#platform = platform;
    this.#store = store;
    this.#metrics = metrics;
    if (config.rootDistributionMs * 2 < config.maxLifetimeMs) {
      log.warn(
        'the distribution time of roots is less than half of the longest lifetime: some agents may miss a rotation',
      );
    }
  }

  /** Throws before `start` has resolved. */
  get opened(): OpenIdentity {
    if (this.#opened === undefined) throw new AmbitError('USAGE', 'the CA is not open');
    return this.#opened;
  }

  /** Rejects when the CA cannot be used at all; while its store cannot be reached, it waits. */
  async start(): Promise<void> {
    const authority = await this.#openAuthority();
    const credentials = new RenewingServerCredentials(authority, serverNames(this.#config));
    credentials.renew();
    this.#opened = {
      authority,
      credentials,
      certificates: this.#certificates(authority),
      authentication: this.#authentication(authority.store),
    };
    this.#stopWatching = authority.store.onChange(() => renewing(() => credentials.renew()));
    this.#maintenance = setInterval(() => void this.#maintain(), MAINTENANCE_MS);
  }

  async stop(): Promise<void> {
    this.#stop.abort('stopping');
    clearInterval(this.#maintenance);
    this.#stopWatching?.();
    await this.#opened?.authority.close();
  }

  pending(): readonly string[] {
    if (this.#opened !== undefined) return [];
    return [this.#reason === '' ? 'certificate authority' : `certificate authority (${this.#reason})`];
  }

  /** A certificate for another port of ours, under the same names. Throws CA when nothing can sign. */
  issueServerCertificate(): ServerCertificate {
    const names = subjectNames(serverNames(this.#config));
    return this.opened.authority.issueServer(names, SERVER_LIFETIME_MS);
  }

  /** When what signs now ends, milliseconds since the epoch: its root, and the first of its chain. Undefined: nothing can sign. */
  expiry(): { readonly rootMs: number; readonly chainMs: number } | undefined {
    const signer = this.#opened?.authority.findSigner();
    return signer === undefined ? undefined : { rootMs: signer.rootNotAfterMs, chainMs: signer.notAfterMs };
  }

  /** What operators may see of the CA: nothing of its keys. */
  view(): unknown {
    if (this.#opened === undefined) return { waitsFor: this.pending() };
    const { authority } = this.#opened;
    const { description, problem, material } = authority.store;
    const text = (ms: number): string => new Date(ms).toISOString();
    return {
      store: description,
      problem,
      signing: authority.findSigner()?.id,
      signers: material.signers.map(({ id, notBeforeMs, notAfterMs, signsFromMs }) => {
        return { id, notBefore: text(notBeforeMs), notAfter: text(notAfterMs), signsFrom: text(signsFromMs) };
      }),
      rootsPem: material.rootsPem,
      revocationLists: material.crlPem !== undefined,
    };
  }

  /** Begins a rotation of the root now, for an operator who has a reason. */
  async rotateRoot(): Promise<void> {
    try {
      if (!(await this.opened.authority.rotate()))
        log.warn('a rotation of the root is under way already, or not ours to begin');
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the rotation of the root could not begin');
    }
  }

  async #openAuthority(): Promise<CertificateAuthority> {
    const { rootLifetimeMs, rootDistributionMs, maxLifetimeMs } = this.#config;
    const policy = {
      ...ROTATION_POLICY,
      rootLifetimeMs,
      distributionMs: rootDistributionMs,
      maxLeafLifetimeMs: maxLifetimeMs,
    };
    const backoff = new Backoff(RETRY);
    for (;;) {
      let authority: CertificateAuthority | undefined;
      try {
        authority = new CertificateAuthority(await this.#platform.openRootStore(), policy);
        await authority.open();
        return authority;
      } catch (thrown) {
        await authority?.close();
        const error = toAmbitError(thrown, 'CA');
        if (error.code !== 'KUBERNETES_API' || this.#stop.signal.aborted) throw error;
        if (error.message !== this.#reason) log.warn({ reason: error.message }, 'the CA cannot be opened yet');
        this.#reason = error.message;
        await delay(backoff.nextDelayMs(), undefined, { signal: this.#stop.signal });
      }
    }
  }

  #certificates(authority: CertificateAuthority): CertificateService {
    const config = this.#config;
    const store = this.#store;
    const rules = {
      trustDomain: config.trustDomain,
      trustedNodeAccounts: new Set(config.trustedNodeAccounts),
      nodeRuns: (node: string, namespace: string, account: string) => store.nodeRuns(node, namespace, account),
      findPod: (namespace: string, name: string) => podFacts(store.find('Pod', namespace, name)),
      ...(config.source === 'kubernetes' && {
        accountExists: (namespace: string, account: string) =>
          store.find('ServiceAccount', namespace, account) !== undefined,
      }),
    };
    return new CertificateService(authority, rules, config, new IssuanceRates(config), this.#metrics);
  }

  #authentication(store: RootStore): CallAuthentication {
    const revocations = new Revocations(store);
    const certificates = new ClientCertificateAuthenticator({
      trustDomain: this.#config.trustDomain,
      revocation: (certificate) => revocations.reason(certificate),
    });
    // Tokens first: they name the node, a certificate does not.
    const ways = new AuthenticatorChain([this.#platform.tokens, certificates]);
    const certificatePath = methodDefinition(IstioCertificateService.method.createCertificate).path;
    return new CallAuthentication(ways, (path) => {
      if (path === certificatePath) this.#metrics.authenticationFailures.inc();
    });
  }

  async #maintain(): Promise<void> {
    const { authority, credentials } = this.opened;
    renewing(() => credentials.renewIfDue());
    if (!this.#platform.alone) return;
    try {
      await authority.maintain();
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the roots of the CA could not be looked after');
    }
  }
}

function renewing(renew: () => void): void {
  try {
    renew();
  } catch (thrown) {
    log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the server certificate could not be renewed');
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
