/**
 * Discovery as a control plane serves it, without sources behind it: listener, TLS, gRPC, authentication and the service.
 * Tests publish resources themselves. Tokens are `<namespace>.<service account>[.<node>]`: what a token proves is tested
 * elsewhere. Everything is closed when the test ends.
 */
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import { AuthorizationSchema } from '../../api/gen/istio/security/authorization_pb.js';
import { ServiceSchema, WorkloadSchema } from '../../api/gen/istio/workload/workload_pb.js';
import { bearerToken, CallAuthentication, type Caller } from '../../control/authentication.ts';
import {
  ADDRESS_TYPE,
  AUTHORIZATION_TYPE,
  authorizationResource,
  type Resource,
  type ResourceType,
  type ResourceUpdate,
  serviceResource,
  workloadResource,
} from '../../control/discovery/resource.ts';
import { ControlListener, type ListenerLimits } from '../../control/listener.ts';
import { ControlMetrics } from '../../control/metrics.ts';
import type { DiscoveryLimits } from '../../control/xds/discovery-limits.ts';
import { addDiscovery } from '../../control/xds/discovery-method.ts';
import { DiscoveryService } from '../../control/xds/discovery-service.ts';
import { SERVER_CHANNEL_OPTIONS } from '../../core/grpc.ts';
import { getIp } from '../../core/ip.ts';
import { TestRoot } from './control-server.ts';

export interface XdsServerOptions {
  readonly limits?: Partial<DiscoveryLimits>;
  readonly listener?: Partial<ListenerLimits>;
  readonly replica?: string;
  readonly root?: TestRoot;
}

export class XdsServer {
  readonly root: TestRoot;
  readonly metrics = new ControlMetrics();
  readonly listener: ControlListener;
  readonly discovery: DiscoveryService;
  readonly #server: Server;
  port = 0;

  private constructor({ limits = {}, listener = {}, replica = 'test', root = new TestRoot() }: XdsServerOptions) {
    this.root = root;
    this.listener = new ControlListener(this.metrics, listener);
    const disconnect = (peer: string): void => this.listener.disconnect(peer);
    this.discovery = new DiscoveryService(this.metrics, { limits, replica, disconnect });
    const authentication = new CallAuthentication({ authenticate: callerIn }, () => undefined);
    const interceptors = this.listener.interceptors(authentication.interceptor);
    this.#server = new Server({ ...SERVER_CHANNEL_OPTIONS, interceptors });
    addDiscovery(this.#server, this.discovery, (call) => authentication.callerOf(call.metadata));
  }

  static async start(context: TestContext, options: XdsServerOptions = {}): Promise<XdsServer> {
    const server = new XdsServer(options);
    context.after(() => server.close());
    await server.#listen();
    return server;
  }

  async #listen(): Promise<void> {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const chain = this.root.sign(keys.publicKey, [{ kind: 'ip', value: '127.0.0.1' }]);
    const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' });
    const pair = { cert_chain: Buffer.from(chain), private_key: Buffer.from(key) };
    const credentials = ServerCredentials.createSsl(null, [pair]);
    this.port = await this.listener.listen(this.#server, credentials, { ip: getIp('127.0.0.1'), port: 0 });
  }

  /** Publishes resources; a name alone removes what has it. */
  publish(type: ResourceType, resources: readonly Resource[], removed: readonly string[] = []): void {
    const updates: ResourceUpdate[] = [
      ...resources.map((resource) => ({ type, name: resource.name, resource })),
      ...removed.map((name) => ({ type, name, resource: undefined })),
    ];
    this.discovery.publish(updates);
  }

  addresses(resources: readonly Resource[], removed: readonly string[] = []): void {
    this.publish(ADDRESS_TYPE, resources, removed);
  }

  policies(resources: readonly Resource[], removed: readonly string[] = []): void {
    this.publish(AUTHORIZATION_TYPE, resources, removed);
  }

  /** The value of a counter or gauge of one label. */
  async metric(name: string, label: string): Promise<number> {
    const metric = await this.metrics.registry.getSingleMetric(name)?.get();
    return metric?.values.find(({ labels }) => Object.values(labels).includes(label))?.value ?? 0;
  }

  async close(): Promise<void> {
    this.discovery.close();
    this.#server.forceShutdown();
    await this.listener.close();
  }
}

async function callerIn(metadata: Metadata): Promise<Caller> {
  const [namespace = '', serviceAccount, node] = bearerToken(metadata).split('.');
  // Somebody must be asked about it, as about a token whose key is not known.
  if (namespace === 'doubtful') await new Promise((resolve) => setTimeout(resolve, 200));
  if (serviceAccount === undefined) throw new Error('no such token');
  const expiresMs = Date.now() + 3_600_000;
  return { namespace, serviceAccount, node, how: 'token', expiresMs };
}

/** Token of the agent of a node. */
export function agentToken(node: string): string {
  return `istio-system.ztunnel.${node}`;
}

export function workload(uid: string, fields: MessageInitShape<typeof WorkloadSchema> = {}): Resource {
  return workloadResource(create(WorkloadSchema, { uid, name: uid, namespace: 'shop', ...fields }));
}

export function service(hostname: string, fields: MessageInitShape<typeof ServiceSchema> = {}): Resource {
  return serviceResource(create(ServiceSchema, { name: hostname, namespace: 'shop', hostname, ...fields }));
}

export function policy(name: string, fields: MessageInitShape<typeof AuthorizationSchema> = {}): Resource {
  return authorizationResource(create(AuthorizationSchema, { name, namespace: 'shop', ...fields }));
}

/** Many workloads, each about as large as that of a real pod. */
export function manyWorkloads(count: number, version = 1, prefix = 'pod'): Resource[] {
  return Array.from({ length: count }, (_, index) =>
    workload(`Kubernetes//Pod/shop/${prefix}-${index}`, {
      addresses: [Uint8Array.of(10, index >> 16, (index >> 8) & 255, index & 255)],
      node: `node-${index % 100}`,
      serviceAccount: 'web',
      trustDomain: 'cluster.local',
      canonicalName: 'web',
      canonicalRevision: String(version),
      workloadName: 'web',
      clusterId: 'Kubernetes',
      services: { 'shop/web.shop.svc.cluster.local': { ports: [{ servicePort: 80, targetPort: 8080 }] } },
    }),
  );
}

/** Resident memory of this process, bytes. */
export function residentBytes(): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) * 1024;
}
