/**
 * The running sandbox: nodes, control plane, agents, pods, and what they report. Made inside the run's own namespaces
 * (world.ts). `start` builds from the ground up, `stop` goes the same way back.
 */

import { once } from 'node:events';
import { createConnection } from 'node:net';
import { type AccessRecord, parseAccessLine } from './access-record.ts';
import { agentProcess, agentReadinessUrl, answersOk, awaitReady, controlProcess } from './agents.ts';
import { parseCallReports } from './call-reports.ts';
import { requireCommand } from './command.ts';
import { type FlowPod, FlowTable } from './flow-table.ts';
import { Kubelet } from './kubelet.ts';
import { CONTROL_IP, CONTROL_PORT, NODE_NAMES, NODES, type NodeName, REPOSITORY_DIRECTORY } from './layout.ts';
import { readMeshFiles } from './mesh-files.ts';
import type { Pod } from './pod.ts';
import type { SupervisedProcess } from './supervised-process.ts';
import { buildTopology } from './topology.ts';
import { makeWorldFolders } from './world-folders.ts';

const READY_DEADLINE_MS = 30_000;
const PODS_DEADLINE_MS = 60_000;
const PLUGIN_BUILD_DEADLINE_MS = 180_000;

export interface SandboxOptions {
  readonly pluginDirectories: readonly string[];
  /** Work on a copy of the mesh folder. */
  readonly copyMesh: boolean;
  /** Settings of both agents, by environment name. */
  readonly agentSettings: Readonly<Record<string, string>>;
  /** Extra environment of every pod process. */
  readonly podEnv: Readonly<Record<string, string>>;
  /** One step of the start: what it is called and a detail to show when it is done. */
  readonly onStep: (name: string, work: Promise<string>) => Promise<void>;
}

export interface Agents {
  readonly a: SupervisedProcess;
  readonly b: SupervisedProcess;
}

export class Sandbox {
  readonly flows: FlowTable = new FlowTable((ip) => this.#findFlowPod(ip));
  readonly #options: SandboxOptions;
  readonly #recordListeners = new Set<(node: NodeName, record: AccessRecord) => void>();
  readonly #exits: string[] = [];
  #meshDirectory = '';
  #kubelet: Kubelet | undefined;
  #control: SupervisedProcess | undefined;
  #agents: Agents | undefined;

  constructor(options: SandboxOptions) {
    this.#options = options;
  }

  /** The folder whose YAML files describe this run. */
  get meshDirectory(): string {
    return this.#meshDirectory;
  }

  get kubelet(): Kubelet {
    return present(this.#kubelet);
  }

  get control(): SupervisedProcess {
    return present(this.#control);
  }

  get agents(): Agents {
    return present(this.#agents);
  }

  /** Processes that ended although nobody asked them to, in words, newest last. */
  get unexpectedExits(): readonly string[] {
    return this.#exits;
  }

  /** Calls `listener` for every access-log record of both agents; the returned function ends that. */
  onRecord(listener: (node: NodeName, record: AccessRecord) => void): () => void {
    this.#recordListeners.add(listener);
    return () => this.#recordListeners.delete(listener);
  }

  async start(): Promise<void> {
    const { onStep } = this.#options;
    await onStep('nodes a, b', this.#buildNodes());
    await onStep('CNI plugin', this.#buildPlugin());
    await onStep('control', this.#startControl());
    await onStep('agents', this.#startAgents());
    await onStep('pods', this.#startPods());
  }

  /** Pods first, as their CNI DEL needs the agents; then the rest. Works after a start that failed half way, too. */
  async stop(): Promise<void> {
    await this.#kubelet?.stop();
    await Promise.all(Object.values(this.#agents ?? {}).map((agent: SupervisedProcess) => agent.stop()));
    await this.#control?.stop();
  }

  /** Resolves with the milliseconds it took until the agent answers ready. */
  awaitAgent(name: NodeName): Promise<number> {
    return awaitReady(this.agents[name], () => answersOk(agentReadinessUrl(NODES[name])), READY_DEADLINE_MS);
  }

  /** Resolves with the milliseconds it took until the control plane accepts connections. */
  awaitControl(): Promise<number> {
    return awaitReady(this.control, acceptsConnections, READY_DEADLINE_MS);
  }

  async #buildNodes(): Promise<string> {
    this.#meshDirectory = await makeWorldFolders({ copyMesh: this.#options.copyMesh });
    await buildTopology();
    return `${NODES.a.wireIp} <-> ${NODES.b.wireIp}`;
  }

  async #buildPlugin(): Promise<string> {
    await requireCommand(['sh', `${REPOSITORY_DIRECTORY}/scripts/build-plugin`], {
      timeoutMs: PLUGIN_BUILD_DEADLINE_MS,
    });
    return 'ptp, host-local, then dist/ambit-cni';
  }

  async #startControl(): Promise<string> {
    this.#control = controlProcess();
    this.#control.start();
    const tookMs = await this.awaitControl();
    const { namespaces, services } = await readMeshFiles(this.#meshDirectory);
    return `ready ${seconds(tookMs)}, root CA P-256, ${namespaces.size} namespaces, ${services.length} services`;
  }

  async #startAgents(): Promise<string> {
    const prepare = (name: NodeName): Promise<SupervisedProcess> =>
      agentProcess(NODES[name], {
        settings: this.#options.agentSettings,
        onLine: (line) => this.#onAgentLine(name, line),
        onExit: (description, wanted) => {
          if (!wanted) this.#exits.push(`agent ${name} ended (${description}) and is started again`);
        },
      });
    this.#agents = { a: await prepare('a'), b: await prepare('b') };
    for (const name of NODE_NAMES) this.#agents[name].start();
    const took = await Promise.all(
      NODE_NAMES.map(async (name) => `${name} ready ${seconds(await this.awaitAgent(name))}`),
    );
    return took.join(', ');
  }

  async #startPods(): Promise<string> {
    this.#kubelet = new Kubelet({
      meshDirectory: this.#meshDirectory,
      pluginDirectories: this.#options.pluginDirectories,
      podEnv: this.#options.podEnv,
      onPodLine: (pod, line) => this.flows.addCalls(pod.key, parseCallReports(line)),
    });
    await this.#kubelet.start(PODS_DEADLINE_MS);
    const enrolled = this.#kubelet.pods.filter((pod) => pod.enrolled).length;
    const outside = this.#kubelet.pods.filter((pod) => !pod.enrolled).map((pod) => pod.key);
    return `${enrolled} enrolled, not in the mesh: ${outside.join(', ') || 'none'}`;
  }

  #onAgentLine(node: NodeName, line: string): void {
    const record = parseAccessLine(line);
    if (record === undefined) return;
    this.flows.add(record, Date.now());
    for (const listener of this.#recordListeners) listener(node, record);
  }

  #findFlowPod(ip: string): FlowPod | undefined {
    const pod = this.#kubelet?.pods.find((candidate: Pod) => candidate.ip === ip);
    return pod === undefined ? undefined : { key: pod.key, node: pod.template.node, ip };
  }
}

async function acceptsConnections(): Promise<boolean> {
  const socket = createConnection({ host: CONTROL_IP, port: CONTROL_PORT });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(1000) });
    return true;
  } finally {
    socket.destroy();
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the sandbox has not come that far');
  return value;
}
