/**
 * The agent process put together. `start` brings the parts up in the order of their dependencies, `stop` takes them down in
 * the opposite one; what exists in between is what the admin pages show.
 *
 *   state <- local file | xDS        certificates <- folder | CA
 *      \________________ workers ___________/
 *                          |
 *            pods <- enrolment (CNI) | dedicated
 */
import { hostname } from 'node:os';
import { keepCompiledCodeSoon } from '../core/compiled-code.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { logger, setLogLevel } from '../core/log.ts';
import { releaseMainWhenIdle } from '../reactor/spare-memory.ts';
import { gatherNodeStatus } from './admin/node-status.ts';
import { startAdmin } from './admin/server.ts';
import type { AdminServers, AdminSource, CertificateView, LogLevel, MetricsSnapshot, PodView } from './admin/source.ts';
import { type AgentConfig, describeConfig, drainGraceMs } from './config.ts';
import type { ControlRelays } from './control-relay.ts';
import { cutsByPod, logCuts } from './cut-report.ts';
import { Dataplane } from './dataplane/dataplane.ts';
import type { LiveConnectionView } from './dataplane/messages.ts';
import { type DedicatedPod, startDedicated } from './dedicated.ts';
import { readHeldPods } from './enrol/held-pods.ts';
import { NodeService } from './node-service.ts';
import { PodIdentities } from './pod-identities.ts';
import type { RouteSettings } from './route/outbound.ts';
import { CaClient } from './state/ca-client.ts';
import { Certificates } from './state/certificates.ts';
import type { ControlEndpoint } from './state/control-channel.ts';
import { IdentityDirectory } from './state/identity-directory.ts';
import type { CertificateSource } from './state/issued-certificate.ts';
import { readLocalConfig } from './state/local-config.ts';
import { MeshState } from './state/mesh-state.ts';
import { ResourceFeed } from './state/resource-feed.ts';
import { RevocationFile } from './state/revocation-file.ts';
import { RootConfigMap } from './state/root-config-map.ts';
import { XdsClient } from './state/xds-client.ts';
import { xdsNode } from './state/xds-node.ts';

const log = logger('agent');

const STANDARD_OUTPUT = 1;
/** An agent that nobody follows takes connections until this long before its end. */
const LAST_CONNECTIONS_MS = 2_000;
/** A certificate that does not come holds up one identity, not the agent. */
const PREPARE_TIMEOUT_MS = 10_000;
const ABANDONED = 'the agent that took over is gone: this one has to start again to serve the node';

/** Names in the readiness answer; Istio's. */
type StartTask = 'state manager' | 'proxy' | 'workload proxy manager';

export class App implements AdminSource {
  readonly state = new MeshState();
  readonly routeSettings: RouteSettings;
  readonly configuration: Readonly<Record<string, unknown>>;
  readonly #config: AgentConfig;
  readonly #relays: ControlRelays | undefined;
  readonly #pending: Set<StartTask>;
  readonly #feed = new ResourceFeed(this.state);
  readonly #certificateSource: CertificateSource & { close?(): void };
  readonly #certificates: Certificates;
  readonly #dataplane: Dataplane;
  readonly #identities: PodIdentities;
  readonly #revocations: RevocationFile | undefined;
  readonly #xds: XdsClient | undefined;
  #node: NodeService | undefined;
  readonly #failure = Promise.withResolvers<never>();
  #dedicated: DedicatedPod | undefined;
  #admin: AdminServers | undefined;
  #logLevel: LogLevel;

  /** `relays`: the way to the control plane where the agent lives behind capture rules; the app closes them. */
  constructor(config: AgentConfig, relays: ControlRelays | undefined) {
    this.#config = config;
    this.#relays = relays;
    this.#logLevel = config.logLevel;
    this.configuration = describeConfig(config);
    this.#pending = new Set(['state manager', 'proxy']);
    if (config.podSource !== undefined) this.#pending.add('workload proxy manager');
    this.routeSettings = {
      outboundPolicy: config.outboundPolicy,
      forceEncryption: config.forceEncryption,
      isLocalPod: (uid) => this.#isLocalPod(uid),
    };
    this.#certificateSource = certificateSource(config, relays);
    this.#certificates = new Certificates({ source: this.#certificateSource });
    this.#dataplane = new Dataplane({
      workers: config.workers,
      settings: {
        node: config.nodeName,
        network: config.network,
        clusterId: config.clusterId,
        trustDomain: config.trustDomain,
        outboundPolicy: config.outboundPolicy,
        forceEncryption: config.forceEncryption,
        logFormat: config.logFormat,
        accessLogFd: config.accessLog ? STANDARD_OUTPUT : undefined,
        readinessWaitMs: config.readinessWaitMs,
        poolMaxStreamsPerConnection: config.poolMaxStreamsPerConnection,
        poolIdleReleaseMs: config.poolIdleReleaseMs,
        keepaliveEnabled: config.keepaliveEnabled,
      },
      feed: this.#feed,
      onNeedIdentity: (identity) => this.#identities.request(identity, 'realTime'),
    });
    this.#identities = new PodIdentities({
      dataplane: this.#dataplane,
      certificates: this.#certificates,
      state: this.state,
      trustDomain: config.trustDomain,
      node: config.nodeName,
    });
    const { revocationFile } = config;
    if (revocationFile !== undefined) {
      this.#revocations = new RevocationFile(revocationFile, (known) => this.#dataplane.setRevocations(known));
    }
    this.#xds = xdsClient(config, relays, this.#feed);
    // Nobody may be waiting for it.
    this.#failure.promise.catch(() => undefined);
  }

  /** Never resolves; rejects when this process can only serve the node by starting again. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  /** Resolves when pods can be captured; readiness may still wait for the control plane. Rejects with an AmbitError. */
  async start(): Promise<void> {
    const config = this.#config;
    setLogLevel(config.logLevel);
    log.info({ configuration: this.configuration }, 'the agent starts');
    const { adminPort, metricsPort, readinessPort } = config;
    this.#admin = await startAdmin(this, { admin: adminPort, metrics: metricsPort, readiness: readinessPort });
    await this.#startState();
    await this.#dataplane.ready;
    if (config.dedicated !== undefined) {
      this.#dedicated = await startDedicated(config.dedicated, this.#identities, config.capture);
    }
    this.#pending.delete('proxy');
    if (config.podSource !== undefined) {
      this.#node = await NodeService.start({
        config,
        podSource: config.podSource,
        dataplane: this.#dataplane,
        capture: this.#identities,
        notReady: () => this.#whyPodsWait(),
        prepared: () => this.#prepared(),
        abandoned: () => this.#failure.reject(new AmbitError('AGENT_UNREACHABLE', ABANDONED)),
      });
      this.#pending.delete('workload proxy manager');
    }
    log.info({ ports: this.#admin.ports, workers: config.workers, ...startTimes() }, 'the agent runs');
    keepCompiledCodeSoon();
    releaseMainWhenIdle();
  }

  /**
   * Drains, then ends everything. An agent that is replaced goes on serving until its successor has come or the time is
   * nearly over, and leaves the rules of its pods: without an agent they fail closed. One that is removed takes them away
   * before it goes.
   */
  async stop(): Promise<void> {
    const graceMs = drainGraceMs(this.#config);
    const deadlineMs = performance.now() + graceMs;
    const node = this.#node;
    const departure = (await node?.findDeparture()) ?? { kind: 'replaced', reason: 'no node is served' };
    log.info({ graceMs, departure }, 'the agent stops');
    const drain = (): Promise<number> => this.#drain(node, deadlineMs, graceMs);
    if (departure.kind === 'removed') await node?.remove(deadlineMs - LAST_CONNECTIONS_MS, drain);
    else await node?.awaitSuccessor(deadlineMs - LAST_CONNECTIONS_MS);
    await this.#closeNode();
    if (departure.kind === 'replaced') await drain();
    await this.abort();
  }

  /** Ends everything at once; also after a start that failed. */
  async abort(): Promise<void> {
    this.#xds?.stop();
    await this.#closeNode();
    await this.#dedicated?.close().catch((thrown: unknown) => {
      log.error({ reason: toAmbitError(thrown, 'RULES').message }, 'the own namespace was not left as it was found');
    });
    this.#revocations?.close();
    this.#identities.close();
    this.#certificates.close();
    this.#certificateSource.close?.();
    await this.#dataplane.stop();
    await this.#admin?.close();
    this.#relays?.close();
  }

  async #closeNode(): Promise<void> {
    const node = this.#node;
    this.#node = undefined;
    await node?.close();
  }

  /** Lets connections end until `deadlineMs`; resolves to how many were cut then, after it was told whose they were. */
  async #drain(node: NodeService | undefined, deadlineMs: number, graceMs: number): Promise<number> {
    const leftMs = Math.max(0, deadlineMs - performance.now());
    const { ended, cut } = await this.#dataplane.drain(leftMs);
    const pods = cutsByPod(this.#dataplane.cutByPod, this.#dataplane.pods());
    logCuts({ ended, cut, graceMs, pods });
    await node?.tellCuts({ ended, cut, graceMs, pods });
    return cut;
  }

  /** The mesh is known and the pods that a former agent left have their certificates; or that cannot be had soon. */
  async #prepared(): Promise<void> {
    await this.#xds?.synced;
    await this.#identities.prepare(await readHeldPods(this.#config.runDirectory), PREPARE_TIMEOUT_MS);
  }

  async #startState(): Promise<void> {
    const { localConfigPath } = this.#config;
    if (localConfigPath !== undefined) {
      for (const update of await readLocalConfig(localConfigPath)) this.#feed.apply(update);
    }
    if (this.#xds === undefined) {
      this.#pending.delete('state manager');
      return;
    }
    this.#xds.start();
    void this.#xds.synced.then(() => this.#pending.delete('state manager'));
  }

  /** The plugin is served only once the former pods are: what else is under way then, its own installation, holds nobody up. */
  #whyPodsWait(): string | undefined {
    const missing = [...this.#pending].filter((task) => task !== 'workload proxy manager');
    return missing.length === 0 ? undefined : missing.join(', ');
  }

  #isLocalPod(workloadUid: string): boolean {
    const workload = this.state.findWorkloadByUid(workloadUid);
    if (workload === undefined) return false;
    return this.#dataplane.stayingPods().some(({ namespace, name }) => {
      return namespace === workload.namespace && name === workload.name;
    });
  }

  certificates(): readonly CertificateView[] {
    return this.#certificates.status().map(({ identity, state, certificate }) => ({
      identity,
      state,
      chainPem: certificate?.certificateChainPem ?? '',
      rootsPem: certificate?.rootsPem ?? '',
    }));
  }

  pods(): readonly PodView[] {
    const enrolment = this.#node?.enrolment;
    if (enrolment === undefined) return this.#dataplane.pods().map((pod) => ({ pod, state: 'up' }));
    return enrolment
      .list()
      .map(({ pod, state }) => ({ pod, state: state === 'enrolled' || state === 'leaving' ? 'up' : 'pending' }));
  }

  async collectMetrics(): Promise<MetricsSnapshot> {
    const pods = this.pods();
    const up = pods.filter(({ state }) => state === 'up').length;
    const { restarts, podsStarted, podsStopped } = this.#dataplane.counts;
    return {
      workers: await this.#dataplane.collect(),
      podsUp: up,
      podsPending: pods.length - up,
      podsStarted,
      podsStopped,
      workersRestarted: restarts,
      ...(this.#xds === undefined ? {} : { xds: this.#xds.stats }),
    };
  }

  connections(): Promise<readonly LiveConnectionView[]> {
    return this.#dataplane.connections();
  }

  readiness(): readonly string[] {
    if (this.#node?.retired === true) return ['another agent has taken over'];
    return [...this.#pending, ...(this.#node?.missing() ?? [])];
  }

  nodeStatus(probe: boolean): ReturnType<typeof gatherNodeStatus> {
    const parts = {
      config: this.#config,
      pending: this.readiness(),
      node: this.#node,
      certificates: this.#certificates.status(),
      xds: this.#xds?.stats,
    };
    return gatherNodeStatus(parts, probe);
  }

  logLevel(): LogLevel {
    return this.#logLevel;
  }

  setLogLevel(level: LogLevel): void {
    this.#logLevel = level;
    setLogLevel(level);
  }
}

/** Since the process was started: what the start took, in time and in work of all threads. */
function startTimes(): { readonly startMs: number; readonly startCpuMs: number } {
  const { user, system } = process.cpuUsage();
  return { startMs: Math.round(performance.now()), startCpuMs: Math.round((user + system) / 1000) };
}

function podName({ podName: configured }: AgentConfig): string {
  return configured === '' ? hostname() : configured;
}

function certificateSource(
  config: AgentConfig,
  relays: ControlRelays | undefined,
): CertificateSource & { close?(): void } {
  if (config.identityDirectory !== undefined) return new IdentityDirectory(config.identityDirectory);
  const address = config.caAddress ?? config.xdsAddress;
  if (address === undefined) {
    throw new AmbitError('CONFIGURATION', 'no certificates: set CA_ADDRESS or XDS_ADDRESS, or give --identity-dir');
  }
  return new CaClient({
    endpoint: endpoint(config, relays, address, config.caRootCa ?? config.xdsRootCa),
    secretTtlMs: config.secretTtlMs,
    impersonate: config.dedicated === undefined,
  });
}

function xdsClient(config: AgentConfig, relays: ControlRelays | undefined, feed: ResourceFeed): XdsClient | undefined {
  if (config.xdsAddress === undefined) return undefined;
  return new XdsClient(feed, {
    endpoint: endpoint(config, relays, config.xdsAddress, config.xdsRootCa ?? config.caRootCa),
    node: xdsNode({
      nodeName: config.nodeName,
      podName: config.dedicated?.name ?? podName(config),
      podNamespace: config.dedicated?.namespace ?? config.podNamespace,
      metadata: { CLUSTER_ID: config.clusterId, NETWORK: config.network },
    }),
  });
}

function endpoint(
  config: AgentConfig,
  relays: ControlRelays | undefined,
  address: string,
  rootCaFile: string | undefined,
): ControlEndpoint {
  const { authTokenFile: tokenFile, clusterId } = config;
  const direct = { address, rootCaFile, askForRoots: rootsOfCluster(config), tokenFile, clusterId };
  return relays?.reach(direct) ?? direct;
}

function rootsOfCluster({ kubeconfig, podNamespace: namespace, rootConfigMap: name }: AgentConfig) {
  if (name === undefined) return undefined;
  const roots = new RootConfigMap({ kubeconfig, namespace, name });
  return () => roots.read();
}
