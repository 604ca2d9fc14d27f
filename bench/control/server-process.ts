/**
 * The control plane under measurement: object store, builder, pipeline and discovery as in production, over a source in
 * memory; TLS and gRPC as in production; callers are believed.
 */
import { getHeapStatistics } from 'node:v8';
import { type Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import { CallAuthentication, type Caller } from '../../control/authentication.ts';
import { MeshBuilder } from '../../control/discovery/mesh-builder.ts';
import { ControlListener } from '../../control/listener.ts';
import { MeshPipeline } from '../../control/mesh-pipeline.ts';
import { ControlMetrics } from '../../control/metrics.ts';
import { ObjectStore } from '../../control/model/object-store.ts';
import { type MeshObject, objectKey } from '../../control/objects/object.ts';
import type { Source, SourceSink } from '../../control/sources/source.ts';
import { addDiscovery } from '../../control/xds/discovery-method.ts';
import { DiscoveryService } from '../../control/xds/discovery-service.ts';
import { SERVER_CHANNEL_OPTIONS } from '../../core/grpc.ts';
import { getIp } from '../../core/ip.ts';
import { residentBytes } from '../process-usage.ts';
import { type MeshSize, meshObjects, podObject } from './mesh-objects.ts';
import { eventMark, type FromServer, type ServerUsage, type ToServer } from './messages.ts';

/** Objects that the source hands over at once. */
const BATCH = 500;
const SETTINGS = {
  clusterId: 'Kubernetes',
  network: '',
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  rootNamespace: 'istio-system',
};

class MemorySource implements Source {
  #sink: SourceSink | undefined;
  readonly #size: MeshSize;
  #added: MeshObject[] = [];

  constructor(size: MeshSize) {
    this.#size = size;
  }

  async start(sink: SourceSink): Promise<void> {
    this.#sink = sink;
    let batch: MeshObject[] = [];
    for (const object of meshObjects(this.#size)) {
      batch.push(object);
      if (batch.length < BATCH) continue;
      sink.changed({ upserted: batch, removed: [] });
      batch = [];
    }
    if (batch.length > 0) sink.changed({ upserted: batch, removed: [] });
    sink.synced();
  }

  /** Adds `count` pods to one service and removes those of the event before. */
  scale(event: number, count: number): void {
    const service = event % this.#size.services;
    const added = Array.from({ length: count }, (_, index) =>
      podObject(`${eventMark(event)}${index}`, service, this.#size.pods + event * count + index, this.#size),
    );
    const removed = this.#added.map(objectKey);
    this.#added = added;
    this.#sink?.changed({ upserted: added, removed });
  }

  waitsFor(): readonly string[] {
    return [];
  }

  async close(): Promise<void> {}
}

const metrics = new ControlMetrics();
const listener = new ControlListener(metrics, {
  acceptBurst: 10_000,
  maxPerAddress: 10_000,
  maxUnprovenPerAddress: 1000,
});
const discovery = new DiscoveryService(metrics, { replica: 'bench', disconnect: (peer) => listener.disconnect(peer) });
let source: MemorySource | undefined;

async function start({ size, certificate, key }: Extract<ToServer, { kind: 'start' }>): Promise<void> {
  const startedMs = performance.now();
  const store = new ObjectStore();
  source = new MemorySource(size);
  const builder = new MeshBuilder(store, SETTINGS);
  const observer = { changed: () => undefined, published: () => undefined };
  const pipeline = new MeshPipeline({ source, store, builder, discovery, metrics, revision: '' }, observer);
  await pipeline.start();
  const readyMs = performance.now() - startedMs;
  const authentication = new CallAuthentication({ authenticate: believe }, () => undefined);
  const interceptors = listener.interceptors(authentication.interceptor);
  const server = new Server({ ...SERVER_CHANNEL_OPTIONS, interceptors });
  addDiscovery(server, discovery, (call) => authentication.callerOf(call.metadata));
  const pair = { cert_chain: Buffer.from(certificate), private_key: Buffer.from(key) };
  const credentials = ServerCredentials.createSsl(null, [pair]);
  const port = await listener.listen(server, credentials, { ip: getIp('127.0.0.1'), port: 0 });
  const { size: resources } = discovery.store('type.googleapis.com/istio.workload.Address');
  tell({ kind: 'serving', port, readyMs, resources });
}

async function believe(metadata: Metadata): Promise<Caller> {
  const node = String(metadata.get('authorization')[0] ?? '').replace('Bearer ', '');
  const expiresMs = Date.now() + 3_600_000;
  return { namespace: 'istio-system', serviceAccount: 'ztunnel', node, how: 'token', expiresMs };
}

function usage(): ServerUsage {
  const { user, system } = process.cpuUsage();
  const clients = discovery.clients();
  return {
    cpuMs: (user + system) / 1000,
    residentBytes: residentBytes(process.pid),
    heapBytes: getHeapStatistics().used_heap_size,
    bytesSent: clients.reduce((sum, client) => sum + client.bytesSent, 0),
    clients: clients.length,
    synced: clients.filter(({ types }) => types.length === 2 && types.every(({ synced }) => synced)).length,
    longestTurnMs: discovery.load().longestTurnMs,
  };
}

function tell(message: FromServer): void {
  process.send?.(message);
}

process.on('message', (message: ToServer) => {
  switch (message.kind) {
    case 'start':
      void start(message);
      break;
    case 'scale':
      tell({ kind: 'scaled', event: message.event, atNs: String(process.hrtime.bigint()) });
      source?.scale(message.event, message.pods);
      break;
    case 'usage':
      tell({ kind: 'usage', usage: usage() });
      break;
    case 'collect':
      globalThis.gc?.();
      tell({ kind: 'usage', usage: usage() });
      break;
    default:
      message satisfies never;
  }
});
process.on('disconnect', () => process.exit());
