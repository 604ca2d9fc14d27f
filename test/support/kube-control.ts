/**
 * Replicas of the control plane as processes of their own on a real API server: the bundle, with the environment and the
 * rights of the chart. And what tests ask them. Everything ends with the test.
 */
import { rmSync } from 'node:fs';
import type { ClientHttp2Session } from 'node:http2';
import type { TestContext } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { IstioCertificateService } from '../../api/gen/istio/v1/auth/ca_pb.js';
import { buildControl } from '../../control/build.ts';
import { callUnary, openTlsClient } from '../../core/grpc.ts';
import { makeRequest } from './certificate-request.ts';
import { environmentOf, MESH_NAMESPACE } from './control-chart.ts';
import { eventually } from './eventually.ts';
import type { KubeApi } from './kube-api.ts';
import { textAt } from './kube-api-call.ts';
import { freePort, makeRunFolder, OwnProcess } from './own-processes.ts';
import { openRawSession, RawXdsStream } from './raw-xds-client.ts';

const START_TIMEOUT_MS = 30_000;
const request = makeRequest();

export interface ReplicaOptions {
  readonly name: string;
  /** All objects of the rendered chart. */
  readonly chart: readonly unknown[];
  /** Over that of the chart. */
  readonly env?: Readonly<Record<string, string>>;
}

export class ControlReplica {
  readonly name: string;
  readonly port: number;
  readonly statusPort: number;
  readonly process: OwnProcess;

  private constructor(name: string, port: number, statusPort: number, process: OwnProcess) {
    this.name = name;
    this.port = port;
    this.statusPort = statusPort;
    this.process = process;
  }

  /** Starts a replica; it is not ready yet. */
  static async start(context: TestContext, api: KubeApi, options: ReplicaOptions): Promise<ControlReplica> {
    const { name, chart, env = {} } = options;
    const [port, statusPort, webhookPort] = [await freePort(), await freePort(), await freePort()];
    const token = await api.serviceAccountToken(MESH_NAMESPACE, 'ambit-control');
    const variables = {
      ...Object.fromEntries(environmentOf(chart)),
      KUBECONFIG: api.tokenKubeconfig(token),
      POD_NAME: name,
      POD_NAMESPACE: MESH_NAMESPACE,
      AMBIT_LISTEN: `127.0.0.1:${port}`,
      AMBIT_STATUS_LISTEN: `127.0.0.1:${statusPort}`,
      AMBIT_WEBHOOK_LISTEN: `127.0.0.1:${webhookPort}`,
      ROOT_CA_DIR: '',
      ...env,
    };
    const args = Object.entries(variables).map(([variable, value]) => `${variable}=${value}`);
    const file = await buildControl();
    const folder = makeRunFolder('ambit-control');
    const child = new OwnProcess(folder, name, '/usr/bin/env', [...args, process.execPath, file]);
    context.after(async () => {
      await child.kill();
      rmSync(folder, { recursive: true, force: true });
    });
    return new ControlReplica(name, port, statusPort, child);
  }

  /** Status code and text of a page of the status port; code 0 while nobody answers. */
  async status(path: string): Promise<{ code: number; text: string }> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.statusPort}${path}`);
      return { code: response.status, text: await response.text() };
    } catch {
      return { code: 0, text: 'no answer' };
    }
  }

  async isReady(): Promise<boolean> {
    return (await this.status('/healthz/ready')).code === 200;
  }

  /** Resolves when it serves. */
  async ready(): Promise<this> {
    await eventually(
      `${this.name} is ready`,
      async () => {
        this.process.requireAlive();
        const { code, text } = await this.status('/healthz/ready');
        if (code !== 200) throw new Error(`${text}\n${this.process.logTail()}`);
      },
      START_TIMEOUT_MS,
    );
    return this;
  }

  /** A view under /debug. */
  async view(name: string): Promise<unknown> {
    return JSON.parse((await this.status(`/debug/${name}`)).text);
  }

  async isLeading(): Promise<boolean> {
    const { code, text } = await this.status('/debug/leader');
    return code === 200 && textOrFlag(text);
  }

  /** Value of a metric line that begins with `name`. */
  async metric(name: string): Promise<number> {
    const { text } = await this.status('/metrics');
    const line = text
      .split('\n')
      .find((candidate) => candidate.startsWith(`${name} `) || candidate.startsWith(`${name}{`));
    return line === undefined ? Number.NaN : Number(line.slice(line.lastIndexOf(' ') + 1));
  }

  /** An authenticated delta xDS stream. */
  xds(context: TestContext, rootsPem: string, token: string): { session: ClientHttp2Session; stream: RawXdsStream } {
    const session = openRawSession(context, this.port, rootsPem);
    return { session, stream: new RawXdsStream(session, token) };
  }

  /** A certificate for `identity`, on a connection of its own. */
  async certificate(rootsPem: string, token: string, identity: string, timeoutMs = 10_000): Promise<string[]> {
    const target = { address: `127.0.0.1:${this.port}`, rootsPem };
    const client = openTlsClient(target, { 'grpc.use_local_subchannel_pool': 1 });
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    try {
      const { certChain } = await callUnary(
        client,
        IstioCertificateService.method.createCertificate,
        { csr: request.csr, validityDuration: 3600n, metadata: { ImpersonatedIdentity: identity } },
        metadata,
        { deadline: Date.now() + timeoutMs },
      );
      return certChain;
    } finally {
      client.close();
    }
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.process.pid, signal);
  }
}

function textOrFlag(text: string): boolean {
  const view: unknown = JSON.parse(text);
  return typeof view === 'object' && view !== null && 'leading' in view && view.leading === true;
}

/** The roots as a namespace is told them. */
export function distributedRoots(api: KubeApi, namespace = MESH_NAMESPACE): Promise<string> {
  return eventually(
    'the roots are distributed',
    async () => {
      const path = `/api/v1/namespaces/${namespace}/configmaps/istio-ca-root-cert`;
      return textAt(await api.call('GET', path), 'data', 'root-cert.pem');
    },
    15_000,
  );
}

export interface PodFacts {
  readonly namespace: string;
  readonly name: string;
  readonly ip: string;
  readonly node: string;
  readonly account?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A running, ready pod, as a kubelet would report it. */
export async function createPod(api: KubeApi, facts: PodFacts): Promise<void> {
  const { namespace, name, ip, node, account = 'default', labels = {} } = facts;
  const path = `/api/v1/namespaces/${namespace}/pods`;
  await api.call('POST', path, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels },
    spec: {
      nodeName: node,
      serviceAccountName: account,
      automountServiceAccountToken: false,
      containers: [{ name: 'main', image: 'example', ports: [{ containerPort: 8080 }] }],
    },
  });
  const pod = await api.call('GET', `${path}/${name}`);
  await api.call('PUT', `${path}/${name}/status`, {
    ...(pod as Record<string, unknown>),
    status: {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  });
}

/** A node with an agent on it; resolves with a token of the agent for the control plane. */
export async function createAgent(api: KubeApi, node: string): Promise<string> {
  await api.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: node } });
  await api.createServiceAccount(MESH_NAMESPACE, 'ambit-agent').catch(() => undefined);
  const name = `ambit-agent-${node}`;
  await createPod(api, { namespace: MESH_NAMESPACE, name, ip: '192.0.2.1', node, account: 'ambit-agent' });
  return await api.serviceAccountToken(MESH_NAMESPACE, 'ambit-agent', { audience: 'istio-ca', boundPod: name });
}
