/**
 * Fixture: the enrolment of one node against a real API server. Pods are objects there and namespaces here; there is no
 * kubelet, so the test writes what kubelet would (phase, addresses), and calls CNI as a runtime would when it wants to.
 * The agent's account has the rights it has in a cluster, and no others.
 */
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openKubernetesSource, type PodSource } from '../../agent/enrol/pod-source.ts';
import { type EnrolmentService, type EnrolmentServiceOptions, startEnrolment } from '../../agent/enrol/service.ts';
import type { PodRequest } from '../../core/enrolment/cni-wire.ts';
import { DEFAULT_ELIGIBILITY } from '../../core/enrolment/eligibility.ts';
import { ENROLLED_CONDITION, REDIRECTION_ANNOTATION } from '../../core/enrolment/redirection.ts';
import { getIp } from '../../core/ip.ts';
import type { KubeApi } from './kube-api.ts';
import { textAt, valueAt } from './kube-api-call.ts';
import { TestNetwork, type TestNode, type TestPod } from './netns.ts';
import { StandInCapture } from './stand-in-capture.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const GROUP = 'ambit-agents';

/** What the chart gives the agent's account for enrolment. */
const RULES = [
  { apiGroups: [''], resources: ['pods', 'namespaces'], verbs: ['get', 'list', 'watch'] },
  { apiGroups: [''], resources: ['pods/status'], verbs: ['patch'] },
  { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch'] },
];

let made = 0;

/** Once per API server: the rights of agents. */
export async function grantAgents(api: KubeApi): Promise<void> {
  const rbac = 'rbac.authorization.k8s.io';
  await api.call('POST', `/apis/${rbac}/v1/clusterroles`, {
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRole',
    metadata: { name: GROUP },
    rules: RULES,
  });
  await api.call('POST', `/apis/${rbac}/v1/clusterrolebindings`, {
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name: GROUP },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: GROUP },
    subjects: [{ apiGroup: rbac, kind: 'Group', name: GROUP }],
  });
}

/** Path of the kubeconfig of a node's agent, with the rights of agents. */
export function agentKubeconfig(api: KubeApi, nodeName: string): string {
  return api.userKubeconfig({ user: `agent-of-${nodeName}`, groups: [GROUP] });
}

export interface PodShape {
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly spec?: Readonly<Record<string, unknown>>;
  /** Default: both addresses of the namespace. */
  readonly ips?: readonly string[];
  readonly phase?: string;
}

export class KubeEnrolmentWorld implements AsyncDisposable {
  readonly api: KubeApi;
  readonly network = TestNetwork.create({ ipv6: true });
  readonly node: TestNode = this.network.addNode();
  /** A namespace that is in the mesh when the test begins, and one that is not. */
  readonly meshed: string;
  readonly plain: string;
  readonly nodeName: string;
  readonly folder: string;
  readonly #running: { source: PodSource; service: EnrolmentService; capture: StandInCapture }[] = [];

  private constructor(api: KubeApi, folder: string) {
    this.api = api;
    this.folder = folder;
    const number = ++made;
    this.meshed = `meshed-${number}`;
    this.plain = `plain-${number}`;
    this.nodeName = `node-${number}`;
  }

  static async create(api: KubeApi): Promise<KubeEnrolmentWorld> {
    const world = new KubeEnrolmentWorld(api, await mkdtemp(join(tmpdir(), 'ambit-enrol-')));
    await api.namespace(world.meshed, AMBIENT);
    await api.namespace(world.plain);
    return world;
  }

  /** An agent; a second one is its successor. `ambit` says what differs from the usual. */
  async start(ambit: Partial<EnrolmentServiceOptions> = {}, capture = new StandInCapture()) {
    const kubeconfig = agentKubeconfig(this.api, this.nodeName);
    const source = openKubernetesSource({ kubeconfig, nodeName: this.nodeName, instance: 'ambit-agent-x' });
    const service = await startEnrolment({
      runDirectory: join(this.folder, 'run'),
      directory: source.directory,
      observer: source.observer,
      capture,
      eligibility: DEFAULT_ELIGIBILITY,
      netnsDirectories: [join(this.folder, 'netns')],
      leavingQuietMs: 50,
      notReady: () => undefined,
      ...ambit,
    });
    const agent = { source, service, capture, enrolment: service.enrolment };
    this.#running.push(agent);
    return agent;
  }

  /** Ends the newest agent as at an orderly stop; pods keep their rules. */
  async stop(): Promise<void> {
    const agent = this.#running.pop();
    await agent?.service.close();
    await agent?.source.close();
    await agent?.capture[Symbol.asyncDispose]();
  }

  /** A namespace with addresses on this node, mounted where the runtime mounts them; no object yet. */
  async addNetns(name: string): Promise<TestPod> {
    const pod = this.node.addPod(name);
    await this.mount(pod, name);
    return pod;
  }

  async mount(pod: TestPod, name: string): Promise<void> {
    const folder = join(this.folder, 'netns');
    await mkdir(folder, { recursive: true });
    await symlink(pod.path, join(folder, `cni-${name}`));
  }

  /** A running pod: object and namespace. */
  async addPod(namespace: string, name: string, shape: PodShape = {}): Promise<TestPod> {
    const pod = await this.addNetns(name);
    await this.createObject(namespace, name, shape);
    await this.setStatus(namespace, name, shape.phase ?? 'Running', shape.ips ?? [pod.address, pod.address6]);
    return pod;
  }

  /** The object alone, as the scheduler leaves it. Its UID. */
  async createObject(namespace: string, name: string, { labels, annotations, spec }: PodShape = {}): Promise<string> {
    const made = await this.api.call('POST', `/api/v1/namespaces/${namespace}/pods`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, labels, annotations },
      spec: {
        nodeName: this.nodeName,
        serviceAccountName: 'default',
        automountServiceAccountToken: false,
        containers: [{ name: 'app', image: 'app' }],
        ...spec,
      },
    });
    return textAt(made, 'metadata', 'uid');
  }

  /** As kubelet would. */
  async setStatus(namespace: string, name: string, phase: string, ips: readonly string[]): Promise<void> {
    await this.#patch(`/api/v1/namespaces/${namespace}/pods/${name}/status`, {
      status: { phase, podIP: ips[0] ?? null, podIPs: ips.map((ip) => ({ ip })) },
    });
  }

  /** Null removes a label. */
  async label(path: string, labels: Readonly<Record<string, string | null>>): Promise<void> {
    await this.#patch(`/api/v1/${path}`, { metadata: { labels } });
  }

  async enterMesh(namespace: string): Promise<void> {
    await this.label(`namespaces/${namespace}`, AMBIENT);
  }

  async leaveMesh(namespace: string): Promise<void> {
    await this.label(`namespaces/${namespace}`, { 'istio.io/dataplane-mode': null });
  }

  async annotate(namespace: string, name: string, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    await this.#patch(`/api/v1/namespaces/${namespace}/pods/${name}`, { metadata: { annotations } });
  }

  async deleteObject(namespace: string, name: string): Promise<void> {
    await this.api.call('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}?gracePeriodSeconds=0`);
  }

  /** What the API server says about the pod's place in the mesh: `annotation; condition status reason`. */
  async statusOf(namespace: string, name: string): Promise<string> {
    const pod = await this.api.call('GET', `/api/v1/namespaces/${namespace}/pods/${name}`);
    const annotation = valueAt(pod, 'metadata', 'annotations', REDIRECTION_ANNOTATION);
    const conditions = valueAt(pod, 'status', 'conditions');
    const list: unknown[] = Array.isArray(conditions) ? conditions : [];
    const own = list.find((entry) => valueAt(entry, 'type') === ENROLLED_CONDITION);
    const condition = own === undefined ? 'none' : `${textAt(own, 'status')} ${textAt(own, 'reason')}`;
    return `${typeof annotation === 'string' ? annotation : 'none'}; ${condition}`;
  }

  /** Message of the condition. */
  async messageOf(namespace: string, name: string): Promise<string> {
    const pod = await this.api.call('GET', `/api/v1/namespaces/${namespace}/pods/${name}`);
    const conditions = valueAt(pod, 'status', 'conditions');
    const list: unknown[] = Array.isArray(conditions) ? conditions : [];
    return textAt(
      list.find((entry) => valueAt(entry, 'type') === ENROLLED_CONDITION),
      'message',
    );
  }

  /** `type note` of every enrolment event of a namespace. */
  async events(namespace: string): Promise<string[]> {
    const list = await this.api.call('GET', `/apis/events.k8s.io/v1/namespaces/${namespace}/events`);
    const items = valueAt(list, 'items');
    return (Array.isArray(items) ? items : [])
      .filter((event: unknown) => textAt(event, 'reason') === 'AmbitEnrolment')
      .map(
        (event: unknown) => `${textAt(event, 'type')} ${textAt(event, 'regarding', 'name')}: ${textAt(event, 'note')}`,
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#running.length > 0) await this.stop();
    await this.network[Symbol.asyncDispose]();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #patch(path: string, body: unknown): Promise<void> {
    const client = this.api.admin();
    await client.request({ method: 'PATCH', path, body, contentType: 'application/merge-patch+json' });
  }
}

/** What a runtime sends for the pod. */
export function addRequest(pod: TestPod, namespace: string, name: string, uid: string): PodRequest {
  return {
    attachment: { containerId: `sandbox-${uid}`, ifName: 'eth0' },
    pod: { namespace, name, uid },
    netns: pod.path,
    ips: [getIp(pod.address), getIp(pod.address6)],
  };
}

/** Are new connections of the pod captured? */
export function isCaptured(pod: TestPod): boolean {
  return rulesOf(pod).includes('redirect to :15001');
}

/** The rules of ours in the pod; empty when there are none. */
export function rulesOf(pod: TestPod): string {
  return pod.exec('nft', 'list', 'ruleset');
}
