/**
 * The control plane put together: source -> objects -> resources -> clients, the CA beside it, and what one elected
 * replica writes back. Every part starts and stops itself (`part.ts`); here is who they are, in which order they come,
 * and what operators see of them.
 */
import { formatSocketAddress, type SocketAddress } from '../core/ip.ts';
import { logger } from '../core/log.ts';
import type { Caller } from './authentication.ts';
import { TrustBundleTask } from './ca/trust-bundle-task.ts';
import { TrustDistributor } from './ca/trust-distributor.ts';
import type { ControlConfig } from './config.ts';
import { MeshBuilder } from './discovery/mesh-builder.ts';
import { Identity } from './identity.ts';
import { AddressAllocation } from './leader/address-allocation.ts';
import { GatewayClassTask } from './leader/gateway-class.ts';
import { Leader } from './leader/leader.ts';
import { NodeUntaint } from './leader/node-untaint.ts';
import { RootRotation } from './leader/root-rotation.ts';
import { StatusWriter } from './leader/status-writer.ts';
import type { LeaderTask } from './leader/task.ts';
import { WebhookRoots } from './leader/webhook-roots.ts';
import { ControlListener } from './listener.ts';
import { MeshPipeline } from './mesh-pipeline.ts';
import { ControlMetrics } from './metrics.ts';
import { ObjectStore } from './model/object-store.ts';
import { type Part, startParts, stopParts, together } from './part.ts';
import { type Cluster, openPlatform, type Platform } from './platform.ts';
import { RpcServer } from './rpc-server.ts';
import { StatusPart } from './status-part.ts';
import { collectMetrics, statusViews } from './status-views.ts';
import { DEFAULT_ANALYSIS_SETTINGS } from './validation/view.ts';
import { openJudges } from './webhook/judge.ts';
import { WebhookServer } from './webhook/server.ts';
import { DiscoveryService } from './xds/discovery-service.ts';

const log = logger('control');

export class ControlPlane {
  readonly #config: ControlConfig;
  readonly #metrics = new ControlMetrics();
  readonly #store = new ObjectStore();
  readonly #platform: Platform;
  readonly #builder: MeshBuilder;
  readonly #identity: Identity;
  readonly #leader: Leader | undefined;
  readonly #rpc: RpcServer;
  readonly #status: StatusPart;
  readonly #parts: readonly Part[];
  #stopping = false;

  /** Throws when the configuration cannot be used; opens nothing that has to be closed. */
  constructor(config: ControlConfig) {
    this.#config = config;
    const metrics = this.#metrics;
    const store = this.#store;
    this.#platform = openPlatform(config, store);
    const { cluster, source, replica } = this.#platform;
    const builder = new MeshBuilder(store, config);
    this.#builder = builder;
    const listener = new ControlListener(metrics);
    const disconnect = (peer: string): void => listener.disconnect(peer);
    const isGone = ({ namespace, pod }: Caller): boolean =>
      pod !== undefined && store.find('Pod', namespace, pod.name)?.meta.uid !== pod.uid;
    const discovery = new DiscoveryService(metrics, { replica, disconnect, isGone });
    this.#identity = new Identity(config, this.#platform.identity, store, metrics);
    this.#leader = cluster === undefined || !config.leaderElection ? undefined : this.#electable(cluster);
    const pipeline = new MeshPipeline(
      { source, store, builder, discovery, metrics, revision: config.revision },
      {
        changed: (changes) => this.#leader?.changed(changes),
        published: (conditionsOf) => this.#leader?.conditionsChanged(conditionsOf),
      },
    );
    // The endpoints of a Service are the last to know that a replica stops.
    const times = { ...config, lingerMs: cluster === undefined ? 0 : config.drainMs };
    this.#rpc = new RpcServer(config.listen, { listener, identity: this.#identity, discovery }, times);
    const seen = {
      replica,
      source,
      metrics,
      builder,
      discovery,
      pipeline,
      identity: this.#identity,
      leader: this.#leader,
    };
    this.#status = new StatusPart(config.statusListen, {
      pending: () => this.#pending(),
      metrics: () => collectMetrics(seen),
      views: statusViews(seen),
    });
    const webhook = config.webhookListen === undefined ? [] : [this.#webhook(config.webhookListen, pipeline)];
    const leader = this.#leader === undefined ? [] : [this.#leader];
    this.#parts = [this.#status, together(this.#identity, pipeline), this.#rpc, ...webhook, ...leader];
  }

  /** Ports in use; 0 before `start`. */
  get port(): number {
    return this.#rpc.port;
  }

  get statusPort(): number {
    return this.#status.port;
  }

  /** Resolves when clients are served. On failure everything is closed again. */
  async start(): Promise<void> {
    try {
      await startParts(this.#parts);
    } catch (thrown) {
      // Whoever stops it before it could serve does not want to hear that it could not.
      if (this.#stopping) return;
      throw thrown;
    }
    const { configDir, listen, source } = this.#config;
    const address = formatSocketAddress({ ip: listen.ip, port: this.port });
    log.info({ address, statusPort: this.statusPort, source, configDir }, 'control plane serving');
  }

  /**
   * Not ready from now on; hands the lease over, sends clients elsewhere one after the other, lets calls in progress
   * finish, closes everything.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    await stopParts(this.#parts);
    this.#platform.close();
    log.info('control plane stopped');
  }

  /** Begins a rotation of the root now, for an operator who has a reason. */
  rotateRoot(): Promise<void> {
    return this.#identity.rotateRoot();
  }

  #pending(): string[] {
    const pending = this.#parts.flatMap((part) => part.pending());
    return this.#stopping ? ['the end: this replica is stopping', ...pending] : pending;
  }

  #webhook(listen: SocketAddress, pipeline: MeshPipeline): WebhookServer {
    const config = this.#config;
    const settings = {
      ...DEFAULT_ANALYSIS_SETTINGS,
      rootNamespace: config.rootNamespace,
      trustDomain: config.trustDomain,
    };
    return new WebhookServer({
      listen,
      issueCertificate: () => this.#identity.issueServerCertificate(),
      ...openJudges(this.#store, settings, () => pipeline.isSynced),
      onAnswer: (outcome) => this.#metrics.webhookAnswers.inc({ outcome }),
    });
  }

  #electable({ client, namespace, identity }: Cluster): Leader {
    const { leaseName, leaseDurationMs } = this.#config;
    return new Leader(client, { namespace, leaseName, leaseDurationMs, identity }, () => this.#tasks(client));
  }

  /** What the elected replica does. */
  #tasks(client: Cluster['client']): readonly LeaderTask[] {
    const config = this.#config;
    const store = this.#store;
    const { authority } = this.#identity.opened;
    const facts = { store, conditions: () => this.#builder.conditions() };
    return [
      new StatusWriter(client, facts, () => this.#metrics.statusWrites.inc()),
      new AddressAllocation(client, store),
      new TrustDistributor(client, authority.store),
      new TrustBundleTask(client, authority.store),
      new RootRotation(authority),
      new GatewayClassTask(client),
      new WebhookRoots(client, authority.store, config.webhookConfiguration),
      ...(config.untaintNodes ? [new NodeUntaint(client, store, config)] : []),
    ];
  }
}
