/**
 * A node with a container runtime that talks to CNI plugins through libcni (test/peers/cni-runtime), the library that
 * containerd and CRI-O use: the reference plugins bridge and host-local in front, ours behind them, and an agent's
 * enrolment with a stand-in data plane. Programs are built from Go modules, so that bridge speaks every version.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { CniServer } from '../../agent/enrol/cni-server.ts';
import { buildPlugin } from '../../cni-plugin/build.ts';
import { EnrolmentWorld } from './enrolment.ts';
import { buildGo } from './go-programs.ts';
import { TestPod } from './netns.ts';
import type { StandInCapture } from './stand-in-capture.ts';

const REFERENCE = 'github.com/containernetworking/plugins/plugins';
const CALL_TIMEOUT_MS = 20_000;

export type LibcniCall = 'add' | 'del' | 'check' | 'gc' | 'status' | 'validate' | 'versions' | 'cached' | 'attachments';

/** One start of a plugin by libcni. */
export interface Execution {
  readonly plugin: string;
  readonly command: string;
  readonly input?: Readonly<Record<string, unknown>>;
  readonly output?: Readonly<Record<string, unknown>>;
}

export interface LibcniAnswer {
  readonly result?: Readonly<Record<string, unknown>>;
  readonly versions?: readonly string[];
  readonly attachments?: readonly string[];
  readonly executions: readonly Execution[] | null;
  /** `code` is 0 when libcni itself refused, not a plugin. */
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly details?: string;
    readonly text: string;
  };
  /** What the plugins wrote to standard error. */
  readonly stderr: string;
}

interface LibcniPrograms {
  readonly runtime: string;
  readonly pluginPath: readonly string[];
}

export async function buildLibcni(): Promise<LibcniPrograms> {
  const runtime = await buildGo('cni-runtime', './cni-runtime');
  const bridge = await buildGo('bridge', `${REFERENCE}/main/bridge`);
  await buildGo('host-local', `${REFERENCE}/ipam/host-local`);
  const ours = await buildPlugin();
  return { runtime, pluginPath: [dirname(bridge), dirname(ours.path)] };
}

export class LibcniNode implements AsyncDisposable {
  readonly world: EnrolmentWorld;
  readonly #programs: LibcniPrograms;
  #server: CniServer | undefined;
  /** The data plane of the running agent. */
  capture: StandInCapture | undefined;

  private constructor(world: EnrolmentWorld, programs: LibcniPrograms) {
    this.world = world;
    this.#programs = programs;
  }

  static async create(programs: LibcniPrograms): Promise<LibcniNode> {
    return new LibcniNode(await EnrolmentWorld.create(), programs);
  }

  async startAgent(notReady?: () => string | undefined): Promise<void> {
    const { enrolment, capture } = await this.world.open({ podWaitMs: 300 });
    this.capture = capture;
    const { runDirectory } = this.world;
    this.#server = await CniServer.open({ runDirectory, enrolment, notReady: notReady ?? (() => undefined) });
  }

  /** A namespace as a runtime makes it: loopback up, nothing else. */
  emptyPod(label: string): TestPod {
    const pod = new TestPod(`${this.world.node.name}-${label}`, label, this.world.node, '');
    this.world.node.pods.push(pod);
    this.world.directory.put(label);
    return pod;
  }

  /** The chain bridge, ours. `ours` are further keys of our entry, `list` of the list. */
  chain(cniVersion: string, ours: object = {}, list: object = {}): Record<string, unknown> {
    return { cniVersion, name: 'pods', plugins: [this.#bridge(), this.entry(ours)], ...list };
  }

  /** Ours without anything before it. */
  alone(cniVersion: string, ours: object = {}): Record<string, unknown> {
    return { cniVersion, name: 'alone', plugins: [this.entry(ours)] };
  }

  entry(changes: object = {}): Record<string, unknown> {
    return { type: 'ambit-cni', runDir: this.world.runDirectory, agentWaitMs: 100, timeoutMs: 5_000, ...changes };
  }

  #bridge(): Record<string, unknown> {
    return {
      type: 'bridge',
      bridge: 'pods0',
      ipam: {
        type: 'host-local',
        dataDir: join(this.world.runDirectory, 'ipam'),
        ranges: [[{ subnet: '10.200.0.0/24' }], [{ subnet: 'fd20::/64' }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
    };
  }

  /** One call of libcni on this node; the pod's sandbox and Kubernetes names are those a kubelet would give. */
  async call(call: LibcniCall, list?: unknown, pod?: TestPod, more: object = {}): Promise<LibcniAnswer> {
    const question = {
      call,
      list,
      plugin: 'ambit-cni',
      pluginPath: this.#programs.pluginPath,
      cacheFolder: join(this.world.runDirectory, 'cache'),
      timeoutMs: CALL_TIMEOUT_MS,
      ...(pod === undefined ? {} : sandboxOf(pod)),
      ...more,
    };
    const child = spawn('nsenter', [`--net=${this.world.node.path}`, this.#programs.runtime], { stdio: 'pipe' });
    const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => stream.setEncoding('utf8').toArray());
    child.stdin.on('error', () => undefined).end(JSON.stringify(question));
    const [code] = await once(child, 'close');
    const texts = { stdout: (await stdout)?.join('') ?? '', stderr: (await stderr)?.join('') ?? '' };
    if (code !== 0) throw new Error(`cni-runtime ended with ${code}: ${texts.stderr}`);
    return { ...JSON.parse(texts.stdout), stderr: texts.stderr };
  }

  async stopAgent(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAgent();
    await this.world[Symbol.asyncDispose]();
  }
}

function sandboxOf(pod: TestPod): object {
  return {
    containerId: sandboxId(pod),
    netns: pod.path,
    ifName: 'eth0',
    args: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', 'demo'],
      ['K8S_POD_NAME', pod.label],
      ['K8S_POD_INFRA_CONTAINER_ID', sandboxId(pod)],
      ['K8S_POD_UID', `uid-${pod.label}`],
    ],
  };
}

export function sandboxId(pod: TestPod): string {
  return `sandbox-${pod.label}`;
}
