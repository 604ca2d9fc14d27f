/**
 * Random changes of a cluster: every kind the mesh reads, in few namespaces and under few names, so that objects meet. The
 * same seed makes the same wishes; what an API server refuses is left out.
 */
import { type ObjectKey, parseObjectKey } from '../../control/objects/object.ts';
import { isNotFound, KubernetesApiError } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { apiVersionOf, RESOURCES, type Resource } from '../../kube/resource.ts';
import type { KubeApi } from './kube-api.ts';
import { removeNamespace } from './kube-source-world.ts';

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const NAMESPACES = ['istio-system', 'n1', 'n2', 'n3'] as const;
const NAMES = ['a', 'b', 'c', 'd'] as const;
const NODES = ['node-1', 'node-2'] as const;
const APPS = ['x', 'y', 'z'] as const;

type Body = { readonly metadata: object } & Readonly<Record<string, unknown>>;

export class MeshChurn {
  readonly #api: KubeApi;
  readonly #client: KubeClient;
  readonly #random: () => number;
  #address = 0;
  /** Wishes that the API server refused, by status. */
  readonly refused = new Map<number, number>();
  /** Changes that were made, by kind. */
  readonly made = new Map<string, number>();

  constructor(api: KubeApi, seed: number) {
    this.#api = api;
    this.#client = api.admin();
    this.#random = seededRandom(seed);
  }

  async prepare(): Promise<void> {
    for (const namespace of NAMESPACES) await this.#api.namespace(namespace);
  }

  /** One change, or none when the server refuses it. */
  async step(): Promise<void> {
    const steps = [
      ['Pod', 6, () => this.#pod()],
      ['Service', 4, () => this.#service()],
      ['EndpointSlice', 2, () => this.#endpointSlice()],
      ['Namespace', 2, () => this.#namespace()],
      ['Node', 1, () => this.#node()],
      ['ServiceAccount', 1, () => this.#serviceAccount()],
      ['Gateway', 2, () => this.#gateway()],
      ['GatewayClass', 1, () => this.#gatewayClass()],
      ['AuthorizationPolicy', 3, () => this.#authorizationPolicy()],
      ['PeerAuthentication', 3, () => this.#peerAuthentication()],
      ['ServiceEntry', 3, () => this.#serviceEntry()],
      ['WorkloadEntry', 2, () => this.#workloadEntry()],
      ['MeshConfig', 1, () => this.#meshConfig()],
    ] as const;
    let ticket = this.#random() * steps.reduce((sum, [, weight]) => sum + weight, 0);
    const [kind, , run] =
      steps.find(([, weight]) => {
        ticket -= weight;
        return ticket < 0;
      }) ?? steps[0];
    try {
      await run();
      this.made.set(kind, (this.made.get(kind) ?? 0) + 1);
    } catch (thrown) {
      const status = thrown instanceof KubernetesApiError ? thrown.status : refusalStatus(thrown);
      // The server must be there: only its verdicts are accepted.
      if (status < 400 || status >= 500) throw thrown;
      this.refused.set(status, (this.refused.get(status) ?? 0) + 1);
    }
  }

  /** Takes objects away, whether they are there or not. */
  async remove(keys: readonly ObjectKey[]): Promise<void> {
    for (const key of keys) {
      const { kind, namespace, name } = parseObjectKey(key);
      const resource = Object.values<Resource>(RESOURCES).find(
        (candidate) => candidate.kind === (kind === 'MeshConfig' ? 'ConfigMap' : kind),
      );
      if (resource === undefined) throw new Error(`unknown kind in ${key}`);
      await this.#client.delete(resource, namespace, name).catch((thrown: unknown) => {
        if (!isNotFound(thrown)) throw thrown;
      });
    }
  }

  pick<T>(values: readonly T[]): T {
    const value = values[Math.floor(this.#random() * values.length)];
    if (value === undefined) throw new Error('nothing to pick from');
    return value;
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  async #pod(): Promise<void> {
    const [namespace, name] = [this.pick(NAMESPACES), this.pick(NAMES)];
    const found = await this.#client.find(RESOURCES.Pod, namespace, name);
    if (found === undefined) {
      await this.#client.create(RESOURCES.Pod, namespace, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace, labels: this.#labels(), annotations: this.#annotations() },
        spec: {
          nodeName: this.pick(NODES),
          serviceAccountName: 'default',
          hostNetwork: this.chance(0.1),
          automountServiceAccountToken: false,
          containers: [{ name: 'c', image: 'i', ports: [{ name: 'http', containerPort: this.pick([80, 8080]) }] }],
        },
      });
      return;
    }
    switch (this.pick(['status', 'status', 'labels', 'terminate', 'kill', 'kill'])) {
      case 'status':
        await this.#client.mergePatch(RESOURCES.Pod, namespace, name, { status: this.#podStatus() }, 'status');
        break;
      case 'labels':
        await this.#client.mergePatch(RESOURCES.Pod, namespace, name, {
          metadata: { labels: { app: this.pick(APPS) }, annotations: this.#annotations() },
        });
        break;
      case 'terminate':
        await this.#client.delete(RESOURCES.Pod, namespace, name);
        break;
      default:
        await this.#client.request({
          method: 'DELETE',
          path: `/api/v1/namespaces/${namespace}/pods/${name}`,
          body: { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0 },
        });
    }
  }

  #podStatus(): object {
    this.#address = (this.#address + 1) % 200;
    const ip = `10.1.0.${this.#address + 1}`;
    const ready = this.chance(0.8) ? 'True' : 'False';
    const phase = this.chance(0.1) ? 'Succeeded' : 'Running';
    return { phase, podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: ready }] };
  }

  #labels(): Record<string, string> {
    const labels: Record<string, string> = { app: this.pick(APPS) };
    if (this.chance(0.2)) labels['istio.io/use-waypoint'] = this.pick([...NAMES, 'none']);
    return labels;
  }

  #annotations(): Record<string, string> {
    return this.chance(0.5) ? { 'ambient.istio.io/redirection': 'enabled' } : {};
  }

  async #service(): Promise<void> {
    const selector = this.chance(0.7) ? { app: this.pick(APPS) } : {};
    await this.#put(RESOURCES.Service, this.pick(NAMESPACES), this.pick(NAMES), {
      metadata: { labels: this.#labels() },
      spec: {
        selector,
        ports: [{ name: 'http', port: 80, targetPort: this.pick(['http', 8080]) }],
        publishNotReadyAddresses: this.chance(0.2),
        internalTrafficPolicy: this.pick(['Cluster', 'Local']),
      },
    });
  }

  async #endpointSlice(): Promise<void> {
    const target = this.chance(0.5) ? { targetRef: { kind: 'Pod', name: this.pick(NAMES) } } : {};
    await this.#put(RESOURCES.EndpointSlice, this.pick(NAMESPACES), this.pick(NAMES), {
      metadata: { labels: { 'kubernetes.io/service-name': this.pick(NAMES) } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints: [
        {
          addresses: [`10.2.0.${1 + Math.floor(this.#random() * 9)}`],
          conditions: { ready: this.chance(0.7) },
          ...target,
        },
      ],
    });
  }

  async #namespace(): Promise<void> {
    if (this.chance(0.25)) {
      await removeNamespace(this.#api, 'n3');
      return;
    }
    const name = this.pick(NAMESPACES);
    const annotations = this.chance(0.3) ? { 'networking.istio.io/traffic-distribution': 'PreferClose' } : {};
    const labels: Record<string, string> = this.#labels();
    if (this.chance(0.3)) labels['istio.io/use-waypoint-namespace'] = this.pick(NAMESPACES);
    await this.#apply(RESOURCES.Namespace, '', name, { metadata: { labels, annotations } });
  }

  async #node(): Promise<void> {
    const labels = { 'topology.kubernetes.io/region': this.pick(['r1', 'r2']), 'topology.kubernetes.io/zone': 'z' };
    await this.#put(RESOURCES.Node, '', this.pick(NODES), { metadata: { labels } });
  }

  async #serviceAccount(): Promise<void> {
    await this.#put(RESOURCES.ServiceAccount, this.pick(NAMESPACES), this.pick(NAMES), { metadata: {} });
  }

  async #gateway(): Promise<void> {
    const [namespace, name] = [this.pick(NAMESPACES), this.pick(NAMES)];
    await this.#put(RESOURCES.Gateway, namespace, name, {
      metadata: { labels: { 'istio.io/waypoint-for': this.pick(['service', 'workload', 'all']) } },
      spec: {
        gatewayClassName: this.pick(['istio-waypoint', 'other']),
        listeners: [
          {
            name: 'mesh',
            port: 15008,
            protocol: 'HBONE',
            allowedRoutes: { namespaces: { from: this.pick(['Same', 'All']) } },
          },
        ],
      },
    });
    if (this.chance(0.8)) {
      const addresses = this.chance(0.8) ? [{ type: 'IPAddress', value: '10.96.0.77' }] : [];
      await this.#client.mergePatch(RESOURCES.Gateway, namespace, name, { status: { addresses } }, 'status');
    }
  }

  async #gatewayClass(): Promise<void> {
    const name = this.pick(['istio-waypoint', 'other']);
    const controllerName = name === 'other' ? 'example.com/other' : 'istio.io/mesh-controller';
    await this.#put(RESOURCES.GatewayClass, '', name, { metadata: {}, spec: { controllerName } });
  }

  async #authorizationPolicy(): Promise<void> {
    const source = this.chance(0.2) ? { principals: ['a'], mistake: ['b'] } : { namespaces: [this.pick(NAMESPACES)] };
    await this.#put(RESOURCES.AuthorizationPolicy, this.pick(NAMESPACES), this.pick(NAMES), {
      metadata: {},
      spec: { ...this.#selector(), action: this.pick(['ALLOW', 'DENY']), rules: [{ from: [{ source }] }] },
    });
  }

  async #peerAuthentication(): Promise<void> {
    const selector = this.#selector();
    const ports =
      'selector' in selector && this.chance(0.5) ? { portLevelMtls: { '8080': { mode: this.#mode() } } } : {};
    await this.#put(RESOURCES.PeerAuthentication, this.pick(NAMESPACES), this.pick(NAMES), {
      metadata: {},
      spec: { ...selector, mtls: { mode: this.#mode() }, ...ports },
    });
  }

  #mode(): string {
    return this.pick(['UNSET', 'STRICT', 'PERMISSIVE', 'DISABLE']);
  }

  #selector(): object {
    return this.chance(0.5) ? { selector: { matchLabels: { app: this.pick(APPS) } } } : {};
  }

  async #serviceEntry(): Promise<void> {
    const [namespace, name] = [this.pick(NAMESPACES), this.pick(NAMES)];
    const endpoints = this.chance(0.5)
      ? { resolution: 'STATIC', endpoints: [{ address: `192.0.2.${1 + Math.floor(this.#random() * 5)}` }] }
      : this.chance(0.5)
        ? { resolution: 'STATIC', workloadSelector: { labels: { app: this.pick(APPS) } } }
        : { resolution: 'DNS' };
    await this.#put(RESOURCES.ServiceEntry, namespace, name, {
      metadata: { labels: this.#labels() },
      spec: {
        hosts: [`${this.pick(NAMES)}.example.com`],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        ...endpoints,
      },
    });
    if (this.chance(0.5)) {
      const addresses = [{ value: `240.240.0.${1 + Math.floor(this.#random() * 9)}` }];
      await this.#client.mergePatch(RESOURCES.ServiceEntry, namespace, name, { status: { addresses } }, 'status');
    }
  }

  async #workloadEntry(): Promise<void> {
    const address = this.chance(0.1) ? '10.0.0.300' : this.pick(['192.0.2.9', 'vm.example.com']);
    await this.#put(RESOURCES.WorkloadEntry, this.pick(NAMESPACES), this.pick(NAMES), {
      metadata: { labels: this.#labels() },
      spec: { address, serviceAccount: 'default', labels: { app: this.pick(APPS) } },
    });
  }

  async #meshConfig(): Promise<void> {
    const mesh = this.chance(0.2)
      ? 'a: [b'
      : `serviceEntryVisibility:\n  defaultVisibility: ${this.pick(['PUBLIC', 'NAMESPACE', 'NONE'])}\n`;
    await this.#put(RESOURCES.ConfigMap, 'istio-system', 'istio', { metadata: {}, data: { mesh } });
  }

  /** Mostly makes the object so, sometimes takes it away. */
  async #put(resource: Resource, namespace: string, name: string, body: Body): Promise<void> {
    if (this.chance(0.2)) await this.#client.delete(resource, namespace, name);
    else await this.#apply(resource, namespace, name, body);
  }

  async #apply(resource: Resource, namespace: string, name: string, body: Body): Promise<void> {
    const metadata = namespace === '' ? { ...body.metadata, name } : { ...body.metadata, name, namespace };
    const whole = { ...body, apiVersion: apiVersionOf(resource), kind: resource.kind, metadata };
    await this.#client.apply(resource, namespace, name, whole, { fieldManager: 'churn', force: true });
  }
}

/** Of the fixture's own calls. */
function refusalStatus(thrown: unknown): number {
  return thrown instanceof Error && 'status' in thrown && typeof thrown.status === 'number' ? thrown.status : 0;
}
