/**
 * A mesh of real processes for tests: a control plane, an agent per node in shared mode, pods enrolled by calling the built CNI
 * plugin. Only the container runtime is played.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildPlugin } from '../../cni-plugin/build.ts';
import { mintAgentToken } from '../../control/tokens.ts';
import { AgentProcess, type AgentProcessOptions } from './agent-process.ts';
import { callCni } from './cni-caller.ts';
import { eventually } from './eventually.ts';
import { endProcess, TestNetwork, type TestNode, type TestPod } from './netns.ts';

const CONTROL_MAIN = fileURLToPath(new URL('../../control/main.ts', import.meta.url));
const CONTROL_IP = '172.31.0.100';

export class SharedMesh implements AsyncDisposable {
  readonly network = TestNetwork.create();
  readonly directory = mkdtempSync(join(tmpdir(), 'ambit-shared-'));
  readonly nodes: TestNode[] = [];
  readonly agents = new Map<TestNode, AgentProcess>();
  readonly #plugin: string;
  readonly #options: AgentProcessOptions;
  #control: ChildProcess | undefined;

  private constructor(plugin: string, options: AgentProcessOptions) {
    this.#plugin = plugin;
    this.#options = options;
  }

  /** `options` are those of every agent. */
  static async start(options: AgentProcessOptions = {}): Promise<SharedMesh> {
    const mesh = new SharedMesh((await buildPlugin()).path, options);
    mkdirSync(join(mesh.directory, 'mesh'));
    mesh.nodes.push(mesh.network.addNode(), mesh.network.addNode());
    mesh.network.switch.ip(`addr add ${CONTROL_IP}/24 dev br0`);
    mesh.write('namespace.yaml', {
      kind: 'Namespace',
      metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } },
    });
    mesh.startControl();
    for (const node of mesh.nodes) await mesh.startAgent(node);
    return mesh;
  }

  write(file: string, object: object): void {
    writeFileSync(join(this.directory, 'mesh', file), JSON.stringify({ apiVersion: 'v1', ...object }));
  }

  startControl(): void {
    this.#control = this.network.switch.spawn(
      process.execPath,
      [
        ...[CONTROL_MAIN, '--config-dir', join(this.directory, 'mesh'), '--state-dir', join(this.directory, 'state')],
        ...['--listen', `${CONTROL_IP}:15012`],
      ],
      { stdio: ['ignore', 'ignore', 'ignore'] },
    );
  }

  async stopControl(): Promise<void> {
    if (this.#control !== undefined) await endProcess(this.#control);
  }

  async startAgent(node: TestNode): Promise<AgentProcess> {
    const agent = await AgentProcess.start(node, await this.#agentOptions(node));
    this.agents.set(node, agent);
    return agent;
  }

  /** Starts another agent for the same node, beside the one that serves it, as a rollout does. */
  async launchSuccessor(node: TestNode): Promise<AgentProcess> {
    const ports = { AMBIT_ADMIN_PORT: '0', AMBIT_METRICS_PORT: '0', AMBIT_READINESS_PORT: '0' };
    return AgentProcess.launch(node, await this.#agentOptions(node, ports));
  }

  async #agentOptions(node: TestNode, more: Readonly<Record<string, string>> = {}): Promise<AgentProcessOptions> {
    const name = `node${node.index}`;
    const state = join(this.directory, 'state');
    const runDirectory = join(this.directory, `run-${name}`);
    const tokenFile = join(this.directory, `token-${name}`);
    mkdirSync(runDirectory, { recursive: true, mode: 0o750 });
    const account = { namespace: 'istio-system', serviceAccount: 'ambit-agent' };
    const token = await eventually('the token key', () =>
      mintAgentToken(join(state, 'token-key.pem'), { ...account, node: name }, 3_600_000),
    );
    writeFileSync(tokenFile, token, { mode: 0o600 });
    return {
      ...this.#options,
      environment: {
        ...this.#options.environment,
        NODE_NAME: name,
        AMBIT_RUN_DIR: runDirectory,
        AMBIT_POD_SOURCE: join(this.directory, 'mesh'),
        XDS_ADDRESS: `${CONTROL_IP}:15012`,
        XDS_ROOT_CA: join(state, 'root-cert.pem'),
        AUTH_TOKEN: tokenFile,
        TERMINATION_GRACE_PERIOD_SECONDS: '2',
        ...more,
      },
    };
  }

  agentOf(pod: TestPod): AgentProcess {
    const agent = this.agents.get(pod.node);
    assert.ok(agent);
    return agent;
  }

  /** Announces a pod to the control plane and enrols it as a container runtime would. */
  async addPod(node: TestNode, label: string): Promise<TestPod> {
    const pod = node.addPod(label);
    const metadata = { name: label, namespace: 'shop', uid: `uid-${pod.name}`, labels: { app: label } };
    const announce = (annotations: Record<string, string>): void =>
      this.write(`pod-${label}.yaml`, {
        kind: 'Pod',
        metadata: { ...metadata, annotations },
        spec: { serviceAccountName: label, nodeName: `node${node.index}`, containers: [] },
        status: { phase: 'Running', podIP: pod.address, conditions: [{ type: 'Ready', status: 'True' }] },
      });
    announce({});
    const outcome = await callCni(node, {
      command: 'ADD',
      plugin: this.#plugin,
      config: {
        ...{ cniVersion: '1.0.0', name: 'test', type: 'ambit-cni' },
        runDir: join(this.directory, `run-node${node.index}`),
        prevResult: {
          cniVersion: '1.0.0',
          interfaces: [{ name: 'eth0', sandbox: pod.path }],
          ips: [{ address: `${pod.address}/24`, interface: 0 }],
        },
      },
      environment: {
        CNI_CONTAINERID: `sandbox-${label}`,
        CNI_NETNS: pod.path,
        CNI_IFNAME: 'eth0',
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${label};K8S_POD_UID=uid-${pod.name}`,
      },
    });
    assert.equal(outcome.status, 0, JSON.stringify(outcome.output));
    announce({ 'ambient.istio.io/redirection': 'enabled' });
    for (const agent of this.agents.values())
      await eventually(`${label} is announced`, () => requireTunnel(agent, pod));
    return pod;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.agents.values()].map((agent) => agent.stop()));
    await this.network[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true });
  }
}

/** Throws while the agent does not know the pod as an end of tunnels. */
function requireTunnel(agent: AgentProcess, pod: TestPod): void {
  const { workloads }: { workloads: { workloadIps: string[]; protocol: string }[] } = JSON.parse(
    agent.get(15000, '/config_dump'),
  );
  const found = workloads.find(({ workloadIps }) => workloadIps.includes(pod.address));
  assert.equal(found?.protocol, 'HBONE');
}
