/**
 * Everything real but the container runtime: a control plane process, two agents in shared mode, pods enrolled by calling
 * the built CNI plugin. Configuration is YAML in a folder, as an operator would edit it.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildPlugin } from '../../cni-plugin/build.ts';
import { mintAgentToken } from '../../control/tokens.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { callCni } from '../support/cni-caller.ts';
import { eventually } from '../support/eventually.ts';
import { endProcess, TestNetwork, type TestNode, type TestPod } from '../support/netns.ts';
import { awaitEnd, readBytes, readToEnd } from '../support/socket-exchange.ts';

const CONTROL_MAIN = fileURLToPath(new URL('../../control/main.ts', import.meta.url));
const CONTROL_IP = '172.31.0.100';
const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/';

let plugin = '';

before(async () => {
  plugin = (await buildPlugin()).path;
});

class SharedMesh implements AsyncDisposable {
  readonly network = TestNetwork.create();
  readonly directory = mkdtempSync(join(tmpdir(), 'ambit-shared-'));
  readonly nodes: TestNode[] = [];
  readonly agents = new Map<TestNode, AgentProcess>();
  #control: ChildProcess | undefined;

  static async start(): Promise<SharedMesh> {
    const mesh = new SharedMesh();
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
    const agent = await AgentProcess.start(node, {
      environment: {
        NODE_NAME: name,
        AMBIT_RUN_DIR: runDirectory,
        AMBIT_POD_SOURCE: join(this.directory, 'mesh'),
        XDS_ADDRESS: `${CONTROL_IP}:15012`,
        XDS_ROOT_CA: join(state, 'root-cert.pem'),
        AUTH_TOKEN: tokenFile,
        TERMINATION_GRACE_PERIOD_SECONDS: '2',
      },
    });
    this.agents.set(node, agent);
    return agent;
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
      plugin,
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

async function exchange(from: TestPod, to: TestPod): Promise<void> {
  const socket = await (await from.process()).connect(to.address, 8080);
  socket.end('hello world');
  assert.equal(String(await readToEnd(socket)), 'hello worldhello world');
}

test('a mesh of real processes: enrolment, tunnel, policy from a file, an agent killed, a control plane gone', async () => {
  await using mesh = await SharedMesh.start();
  const [first, second] = mesh.nodes;
  assert.ok(first && second);
  const client = await mesh.addPod(first, 'client');
  const server = await mesh.addPod(second, 'server');
  const echo = await (await server.process()).listen(8080, 'double');

  await exchange(client, server);
  assert.deepEqual(echo.clients, [client.address]);
  const [outbound] = await mesh.agentOf(client).awaitLines(1, (line) => line.direction === 'outbound');
  const [inbound] = await mesh.agentOf(server).awaitLines(1, (line) => line.direction === 'inbound');
  assert.deepEqual([outbound?.path, outbound?.bytes_sent, outbound?.bytes_recv], ['hbone', 11, 22]);
  assert.deepEqual([inbound?.path, inbound?.bytes_sent, inbound?.bytes_recv], ['hbone', 22, 11]);
  assert.equal(inbound?.['src.identity'], `${IDENTITY}client`);
  assert.equal(mesh.agentOf(client).metric('istio_tcp_received_bytes_total', 'reporter="source"'), 11);

  // Without the control plane everything known stays in force.
  await mesh.stopControl();
  await exchange(client, server);

  // A killed agent: closed at once, open again with its successor, the pod untouched.
  await mesh.agentOf(client).kill();
  assert.equal(await (await client.process()).attempt(server.address, 8080), 'ECONNREFUSED');
  mesh.startControl();
  await mesh.startAgent(first);
  await exchange(client, server);

  // A policy file ends a live connection and refuses new ones.
  const live = await (await client.process()).connect(server.address, 8080);
  live.write('x');
  assert.equal(String(await readBytes(live, 2)), 'xx');
  mesh.write('deny.yaml', {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'no-client', namespace: 'shop' },
    spec: { action: 'DENY', rules: [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/client'] } }] }] },
  });
  assert.equal(await awaitEnd(live), 'ECONNRESET');
  assert.equal(await (await client.process()).attempt(server.address, 8080), 'ECONNRESET');
  await mesh.agentOf(server).awaitLines(1, (line) => line.reason === 'POLICY_CHANGED');
  await mesh.agentOf(server).awaitLines(1, (line) => line.reason === 'POLICY_DENIED');
});
