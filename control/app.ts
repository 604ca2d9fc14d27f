/**
 * The control plane put together: source -> objects -> resources -> clients, and the CA beside it. Start and stop
 * mirror each other; everything opened here is closed here.
 */
import type { Server as HttpServer } from 'node:http';
import { join } from 'node:path';
import { Server, type ServerDuplexStream, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import {
  type IstioCertificateRequest,
  type IstioCertificateResponse,
  IstioCertificateService,
} from '../api/gen/istio/v1/auth/ca_pb.js';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { MAX_CERTIFICATE_MESSAGE_BYTES, methodDefinition, SERVER_CHANNEL_OPTIONS } from '../core/grpc.ts';
import { formatSocketAddress } from '../core/ip.ts';
import { logger } from '../core/log.ts';
import { CallAuthentication } from './authentication.ts';
import { CertificateAuthority } from './ca/authority.ts';
import { CertificateService } from './ca/certificate-service.ts';
import { ROTATION_POLICY } from './ca/rotation.ts';
import type { ControlConfig } from './config.ts';
import { MeshBuilder } from './discovery/mesh-builder.ts';
import { RESOURCE_TYPES } from './discovery/resource.ts';
import { ControlMetrics } from './metrics.ts';
import { type ObjectChange, ObjectStore } from './model/object-store.ts';
import { RateLimit } from './rate-limit.ts';
import { RenewingServerCredentials } from './server-certificate.ts';
import { FILE_SOURCE_TIMES, FileSource, logProblems } from './sources/files.ts';
import type { ChangeSet, Source, SourceProblem, SourceSink } from './sources/source.ts';
import { openStatusServer } from './status-server.ts';
import { openTokenKey, TokenAuthenticator } from './tokens.ts';
import { DiscoveryService } from './xds/discovery-service.ts';

const log = logger('control');

/** Reasons that readiness names. */
const MAX_REASONS = 5;
/** How often certificates and roots are looked at. */
const MAINTENANCE_MS = 30_000;
/** Changes within this time of each other are published together, but none waits longer than the second number. */
const DEBOUNCE_MS = 20;
const DEBOUNCE_MAX_MS = 200;

export class ControlPlane implements SourceSink {
  readonly #config: ControlConfig;
  readonly #metrics = new ControlMetrics();
  readonly #store = new ObjectStore();
  readonly #builder: MeshBuilder;
  readonly #discovery: DiscoveryService;
  readonly #authority: CertificateAuthority;
  readonly #certificates: CertificateService;
  readonly #authentication: CallAuthentication;
  readonly #credentials: RenewingServerCredentials;
  readonly #source: Source;
  readonly #server: Server;
  #statusServer: HttpServer | undefined;
  #maintenance: NodeJS.Timeout | undefined;
  #publishTimer: NodeJS.Timeout | undefined;
  /** Changes that clients have not been told of, and since when the oldest waits. */
  #unpublished: ObjectChange[] = [];
  #waitingSinceMs = 0;
  #synced = false;
  readonly #whenSynced: Promise<void>;
  readonly #announceSynced: () => void;
  #problems: readonly SourceProblem[] = [];
  #loggedProblems: ReadonlySet<string> = new Set();
  #loggedConditions = new Map<string, string>();
  /** Ports in use; set by `start`. */
  port = 0;
  statusPort = 0;

  constructor(config: ControlConfig) {
    this.#config = config;
    ({ promise: this.#whenSynced, resolve: this.#announceSynced } = Promise.withResolvers<void>());
    this.#source = new FileSource(config.configDir, FILE_SOURCE_TIMES, join(config.stateDir, 'kept'));
    this.#builder = new MeshBuilder(this.#store, config);
    this.#discovery = new DiscoveryService(this.#metrics);
    this.#authority = new CertificateAuthority(config.stateDir, config.trustDomain, {
      ...ROTATION_POLICY,
      rootLifetimeMs: config.rootLifetimeMs,
      distributionMs: config.rootDistributionMs,
      maxLeafLifetimeMs: config.maxLifetimeMs,
    });
    this.#certificates = new CertificateService(
      this.#authority,
      {
        trustDomain: config.trustDomain,
        trustedNodeAccounts: new Set(config.trustedNodeAccounts),
        nodeRuns: (node, namespace, serviceAccount) => this.#store.nodeRuns(node, namespace, serviceAccount),
      },
      config,
      new RateLimit({ burst: config.certificateBurst, perSecond: config.certificatesPerSecond, maxKeys: 10_000 }),
      this.#metrics,
    );
    if (config.rootDistributionMs * 2 < config.maxLifetimeMs) {
      log.warn(
        'the distribution time of roots is less than half of the longest lifetime: some agents may miss a rotation',
      );
    }
    const key = openTokenKey(config.tokenKey ?? join(config.stateDir, 'token-key.pem'));
    const certificatePath = methodDefinition(IstioCertificateService.method.createCertificate).path;
    this.#authentication = new CallAuthentication(new TokenAuthenticator(key), (path) => {
      if (path === certificatePath) this.#metrics.authenticationFailures.inc();
    });
    this.#credentials = new RenewingServerCredentials(this.#authority, [
      ...config.serverNames,
      ...(isWildcard(config.listen.ip) ? [] : [config.listen.ip]),
      `istiod.${config.rootNamespace}.svc`,
      `istiod.${config.rootNamespace}.svc.${config.clusterDomain}`,
    ]);
    this.#server = new Server({ ...SERVER_CHANNEL_OPTIONS, interceptors: [this.#authentication.interceptor] });
    this.#addServices();
  }

  /** Resolves when clients are served. On failure everything is closed again. */
  async start(): Promise<void> {
    try {
      await this.#open();
    } catch (thrown) {
      await this.stop();
      throw thrown;
    }
  }

  async #open(): Promise<void> {
    const status = await openStatusServer(this.#config.statusListen, {
      pending: () => this.#pending(),
      metrics: () => this.#collectMetrics(),
      views: this.#views(),
    });
    this.#statusServer = status.server;
    this.statusPort = status.port;
    await this.#source.start(this);
    // Nobody is served before everything is known: an empty answer would take the mesh away from its agents.
    await this.#whenSynced;
    this.port = await this.#bind();
    this.#maintenance = setInterval(() => this.#maintain(), MAINTENANCE_MS);
    const address = formatSocketAddress({ ip: this.#config.listen.ip, port: this.port });
    log.info({ address, statusPort: this.statusPort, configDir: this.#config.configDir }, 'control plane serving');
  }

  /** Ends streams so that clients go elsewhere, lets calls in progress finish, closes everything. */
  async stop(): Promise<void> {
    clearInterval(this.#maintenance);
    clearTimeout(this.#publishTimer);
    await this.#source.close();
    this.#discovery.close();
    await new Promise<void>((resolve) => {
      const deadline = setTimeout(() => this.#server.forceShutdown(), this.#config.terminationGraceMs);
      this.#server.tryShutdown(() => {
        clearTimeout(deadline);
        resolve();
      });
    });
    this.#statusServer?.closeAllConnections();
    await new Promise<void>((resolve) => {
      if (this.#statusServer === undefined) resolve();
      else this.#statusServer.close(() => resolve());
    });
    log.info('control plane stopped');
  }

  changed(change: ChangeSet): void {
    // The CA looks pods up here, so that it knows them at once; clients are told a moment later.
    const changes = this.#store.apply(change);
    if (changes.length === 0) return;
    const now = performance.now();
    if (this.#unpublished.length === 0) this.#waitingSinceMs = now;
    this.#unpublished.push(...changes);
    clearTimeout(this.#publishTimer);
    const delayMs = Math.max(0, Math.min(DEBOUNCE_MS, this.#waitingSinceMs + DEBOUNCE_MAX_MS - now));
    this.#publishTimer = setTimeout(() => this.#publish(), this.#synced ? delayMs : 0);
  }

  synced(): void {
    this.#publish();
    this.#synced = true;
    this.#announceSynced();
    log.info({ objects: this.#store.size }, 'source read');
  }

  problems(current: readonly SourceProblem[]): void {
    this.#problems = current;
    this.#loggedProblems = logProblems(current, this.#loggedProblems);
    this.#metrics.sourceProblems.set(current.filter((problem) => problem.severity === 'error').length);
  }

  #publish(): void {
    clearTimeout(this.#publishTimer);
    if (this.#unpublished.length === 0) return;
    const changes = this.#unpublished;
    this.#unpublished = [];
    this.#discovery.publish(this.#builder.update(changes));
    this.#metrics.propagation.observe((performance.now() - this.#waitingSinceMs) / 1000);
    this.#logConditions();
  }

  /** One line when what became of a policy changes. */
  #logConditions(): void {
    const conditions = new Map<string, string>();
    for (const [object, reached] of this.#builder.conditions()) {
      for (const { type, status, reason, message } of reached) {
        if (!type.endsWith('Accepted')) continue;
        const text = `${status}/${reason}: ${message}`;
        conditions.set(`${object} ${type}`, text);
        if (reason !== 'Accepted' && this.#loggedConditions.get(`${object} ${type}`) !== text) {
          log.warn({ object, status, reason, detail: message }, 'policy is not enforced as written');
        }
      }
    }
    this.#loggedConditions = conditions;
  }

  #addServices(): void {
    const { createCertificate } = IstioCertificateService.method;
    this.#server.addService(
      { createCertificate: methodDefinition(createCertificate, MAX_CERTIFICATE_MESSAGE_BYTES) },
      {
        createCertificate: (
          call: ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>,
          answer: sendUnaryData<IstioCertificateResponse>,
        ) => {
          const caller = this.#authentication.callerOf(call.metadata);
          const result = this.#certificates.answer(caller, call.request, call.getPeer());
          if (result.kind === 'issued') answer(null, result.response);
          else answer(result.refusal);
        },
      },
    );
    const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
    this.#server.addService(
      { deltaAggregatedResources: methodDefinition(deltaAggregatedResources) },
      {
        deltaAggregatedResources: (call: ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) =>
          this.#discovery.serve(call, this.#authentication.callerOf(call.metadata)),
      },
    );
  }

  #bind(): Promise<number> {
    const address = formatSocketAddress(this.#config.listen);
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, this.#credentials, (error, port) => {
        if (error === null) resolve(port);
        else reject(new AmbitError('CONFIGURATION', `cannot listen on ${address}: ${error.message}`));
      });
    });
  }

  /** Begins a rotation of the root now, for an operator who has a reason. */
  rotateRoot(): void {
    try {
      if (!this.#authority.rotate()) log.warn('a rotation of the root is under way already');
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the rotation of the root could not begin');
    }
  }

  #maintain(): void {
    try {
      if (this.#authority.maintain()) this.#credentials.renew();
      else this.#credentials.renewIfDue();
    } catch (thrown) {
      log.error(
        { reason: thrown instanceof Error ? thrown.message : String(thrown) },
        'certificate maintenance failed',
      );
    }
  }

  #pending(): string[] {
    const pending: string[] = [];
    if (!this.#synced) {
      const reasons = this.#source.waitsFor().slice(0, MAX_REASONS);
      pending.push(reasons.length === 0 ? 'source' : `source (${reasons.join('; ')})`);
    }
    if (this.port === 0) pending.push('listener');
    return pending;
  }

  async #collectMetrics(): Promise<{ contentType: string; text: string }> {
    const expiresMs = this.#authority.signingRoot().notAfterMs;
    this.#metrics.rootExpiry.set(Math.floor(expiresMs / 1000));
    this.#metrics.rootExpirySeconds.set(Math.floor((expiresMs - Date.now()) / 1000));
    for (const type of RESOURCE_TYPES) this.#metrics.resources.set({ type }, this.#discovery.store(type).size);
    const { registry } = this.#metrics;
    return { contentType: registry.contentType, text: await registry.metrics() };
  }

  #views(): ReadonlyMap<string, () => unknown> {
    const resources = (): unknown =>
      Object.fromEntries(
        RESOURCE_TYPES.map((type) => {
          const store = this.#discovery.store(type);
          return [type, Object.fromEntries([...store.names()].map((name) => [name, store.find(name)?.version]))];
        }),
      );
    return new Map<string, () => unknown>([
      ['problems', () => this.#problems],
      ['conditions', () => Object.fromEntries(this.#builder.conditions())],
      ['clients', () => this.#discovery.clients()],
      ['resources', resources],
    ]);
  }
}

function isWildcard(ip: string): boolean {
  return ip === '0.0.0.0' || ip === '::';
}
