/**
 * The control plane put together: source -> objects -> resources -> clients, and the CA beside it. Every part starts
 * and stops itself (`part.ts`); here is who they are, in which order they come, and what operators see of them.
 */
import { join } from 'node:path';
import { AmbitError } from '../core/errors.ts';
import { formatSocketAddress } from '../core/ip.ts';
import { logger } from '../core/log.ts';
import type { ControlConfig } from './config.ts';
import { MeshBuilder } from './discovery/mesh-builder.ts';
import { RESOURCE_TYPES } from './discovery/resource.ts';
import { Identity } from './identity.ts';
import { MeshPipeline } from './mesh-pipeline.ts';
import { ControlMetrics } from './metrics.ts';
import { ObjectStore } from './model/object-store.ts';
import { type Part, startParts, stopParts } from './part.ts';
import { RpcServer } from './rpc-server.ts';
import { FILE_SOURCE_TIMES, FileSource } from './sources/files.ts';
import type { Source } from './sources/source.ts';
import { StatusPart } from './status-part.ts';
import { DiscoveryService } from './xds/discovery-service.ts';

const log = logger('control');

export class ControlPlane {
  readonly #config: ControlConfig;
  readonly #metrics = new ControlMetrics();
  readonly #builder: MeshBuilder;
  readonly #discovery: DiscoveryService;
  readonly #identity: Identity;
  readonly #pipeline: MeshPipeline;
  readonly #rpc: RpcServer;
  readonly #status: StatusPart;
  readonly #parts: readonly Part[];

  /** Throws when the configuration cannot be used; opens nothing that has to be closed. */
  constructor(config: ControlConfig) {
    this.#config = config;
    const store = new ObjectStore();
    this.#builder = new MeshBuilder(store, config);
    this.#discovery = new DiscoveryService(this.#metrics);
    this.#identity = new Identity(config, store, this.#metrics);
    this.#pipeline = new MeshPipeline(
      {
        source: openSource(config),
        store,
        builder: this.#builder,
        discovery: this.#discovery,
        metrics: this.#metrics,
      },
      () => undefined,
    );
    this.#rpc = new RpcServer(config.listen, this.#identity, this.#discovery, config);
    this.#status = new StatusPart(config.statusListen, {
      pending: () => this.#parts.flatMap((part) => part.pending()),
      metrics: () => this.#collectMetrics(),
      views: this.#views(),
    });
    this.#parts = [this.#status, this.#identity, this.#pipeline, this.#rpc];
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
    await startParts(this.#parts);
    const { configDir, listen, source } = this.#config;
    const address = formatSocketAddress({ ip: listen.ip, port: this.port });
    log.info({ address, statusPort: this.statusPort, source, configDir }, 'control plane serving');
  }

  /** Ends streams so that clients go elsewhere, lets calls in progress finish, closes everything. */
  async stop(): Promise<void> {
    await stopParts(this.#parts);
    log.info('control plane stopped');
  }

  /** Begins a rotation of the root now, for an operator who has a reason. */
  rotateRoot(): Promise<void> {
    return this.#identity.rotateRoot();
  }

  async #collectMetrics(): Promise<{ contentType: string; text: string }> {
    const expiresMs = this.#identity.rootExpiresMs();
    if (expiresMs !== undefined) {
      this.#metrics.rootExpiry.set(Math.floor(expiresMs / 1000));
      this.#metrics.rootExpirySeconds.set(Math.floor((expiresMs - Date.now()) / 1000));
    }
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
      ['problems', () => this.#pipeline.currentProblems()],
      ['conditions', () => Object.fromEntries(this.#builder.conditions())],
      ['clients', () => this.#discovery.clients()],
      ['resources', resources],
    ]);
  }
}

function openSource(config: ControlConfig): Source {
  const { configDir, stateDir } = config;
  if (configDir === undefined || stateDir === undefined) throw new AmbitError('USAGE', 'the file source needs folders');
  return new FileSource(configDir, FILE_SOURCE_TIMES, join(stateDir, 'kept'));
}
