/**
 * Dedicated agents with a control plane process: one pod per node, the control plane on the switch. Pods are announced to it
 * as ends of tunnels; each agent has a token of its pod's service account.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mintToken, readTokenKey } from '../../control/tokens.ts';
import { AgentProcess } from './agent-process.ts';
import { eventually } from './eventually.ts';
import { TestNetwork, type TestPod } from './netns.ts';

const CONTROL_MAIN = fileURLToPath(new URL('../../control/main.ts', import.meta.url));
const CONTROL_IP = '172.31.0.100';
const CONTROL_PORT = 15012;
const NAMESPACE = 'shop';

export class DedicatedMesh implements AsyncDisposable {
  readonly #network = TestNetwork.create();
  readonly #directory = mkdtempSync(join(tmpdir(), 'ambit-dedicated-'));
  readonly #agents = new Map<TestPod, AgentProcess>();

  static async start(): Promise<DedicatedMesh> {
    const mesh = new DedicatedMesh();
    mkdirSync(mesh.#path('mesh'));
    mesh.#network.switch.ip(`addr add ${CONTROL_IP}/24 dev br0`);
    mesh.#network.switch.spawn(
      process.execPath,
      [
        ...[CONTROL_MAIN, '--config-dir', mesh.#path('mesh'), '--state-dir', mesh.#path('state')],
        ...['--listen', `${CONTROL_IP}:${CONTROL_PORT}`],
      ],
      { stdio: ['ignore', 'ignore', 'ignore'] },
    );
    return mesh;
  }

  /** A pod on a node of its own. */
  addPod(label: string): TestPod {
    const node = this.#network.addNode();
    this.#network.switch.ip(`route add 10.77.${node.index}.0/24 via ${node.address}`);
    const pod = node.addPod(label);
    const metadata = { name: label, namespace: NAMESPACE, annotations: { 'ambient.istio.io/redirection': 'enabled' } };
    const object = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata,
      spec: { serviceAccountName: label, nodeName: node.name, containers: [] },
      status: { phase: 'Running', podIP: pod.address, conditions: [{ type: 'Ready', status: 'True' }] },
    };
    writeFileSync(this.#path('mesh', `${label}.yaml`), JSON.stringify(object));
    return pod;
  }

  async startAgent(pod: TestPod, args: readonly string[]): Promise<void> {
    const token = await eventually('the token key', () =>
      mintToken(
        readTokenKey(this.#path('state', 'token-key.pem')),
        { namespace: NAMESPACE, serviceAccount: pod.label },
        3_600_000,
      ),
    );
    const tokenFile = this.#path(`token-${pod.label}`);
    writeFileSync(tokenFile, token, { mode: 0o600 });
    const agent = await AgentProcess.start(pod, {
      args: ['--dedicated', `${NAMESPACE}/${pod.label}/${pod.label}`, ...args],
      environment: {
        NODE_NAME: pod.node.name,
        XDS_ADDRESS: `${CONTROL_IP}:${CONTROL_PORT}`,
        XDS_ROOT_CA: this.#path('state', 'root-cert.pem'),
        AUTH_TOKEN: tokenFile,
        TERMINATION_GRACE_PERIOD_SECONDS: '2',
      },
    });
    this.#agents.set(pod, agent);
  }

  agentOf(pod: TestPod): AgentProcess {
    const agent = this.#agents.get(pod);
    assert.ok(agent);
    return agent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.stop()));
    await this.#network[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true });
  }

  #path(...names: readonly string[]): string {
    return join(this.#directory, ...names);
  }
}
