/**
 * The usual world of data plane tests: two nodes with two pods each, an agent per node, one authority, and the service
 * `web` (10.96.0.1:80) with both pods of the second node as endpoints. All pods are captured.
 */
import { TestDataplane, type TestDataplaneOptions } from './dataplane.ts';
import { TestNetwork, type TestPod } from './netns.ts';
import { createAuthority } from './pki.ts';

export class TwoNodes implements AsyncDisposable {
  readonly network = TestNetwork.create({ ipv6: true });
  readonly client: TestPod;
  readonly neighbour: TestPod;
  readonly server: TestPod;
  readonly second: TestPod;
  readonly authority = createAuthority();
  #agents: TestDataplane[] = [];

  constructor() {
    const [near, far] = [this.network.addNode(), this.network.addNode()];
    this.client = near.addPod('client');
    this.neighbour = near.addPod('neighbour');
    this.server = far.addPod('server');
    this.second = far.addPod('second');
  }

  static async start(
    options: Partial<TestDataplaneOptions> = {},
  ): Promise<{ mesh: TwoNodes; near: TestDataplane; far: TestDataplane }> {
    const mesh = new TwoNodes();
    const { authority } = mesh;
    const near = await TestDataplane.start({ ...options, node: 'node1', authority });
    const far = await TestDataplane.start({ ...options, node: 'node2', authority });
    mesh.#agents = [near, far];
    mesh.configure();
    for (const pod of [mesh.client, mesh.neighbour]) await near.enrol(pod);
    for (const pod of [mesh.server, mesh.second]) await far.enrol(pod);
    return { mesh, near, far };
  }

  configure(policies = ''): void {
    const workload = (pod: TestPod, node: string, services = '{}'): string =>
      `- { name: ${pod.label}, namespace: default, serviceAccount: ${pod.label}, workloadIps: [${pod.address}, "${pod.address6}"], node: ${node}, protocol: HBONE, services: ${services} }`;
    const member = '{ default/web.default.svc.cluster.local: { 80: 8080 } }';
    const yaml = [
      'workloads:',
      workload(this.client, 'node1'),
      workload(this.neighbour, 'node1'),
      workload(this.server, 'node2', member),
      workload(this.second, 'node2', member),
      'services:',
      '- { name: web, namespace: default, hostname: web.default.svc.cluster.local, vips: ["/10.96.0.1"], ports: { 80: 8080 } }',
      policies,
    ].join('\n');
    for (const agent of this.#agents) agent.configure(yaml);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await agent[Symbol.asyncDispose]();
    await this.network[Symbol.asyncDispose]();
  }
}
