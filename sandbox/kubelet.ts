/**
 * Makes the running pods what the mesh folder asks for, and keeps what depends on them true: pod objects, hosts files,
 * service translation on the nodes. Watches the folder, so that adding, editing or deleting a file has an effect.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';
import { writeNamespaces } from './cluster-files.ts';
import { CniRuntime } from './cni.ts';
import { cniChain } from './cni-chain.ts';
import { requireCommand } from './command.ts';
import { HOSTS_DIRECTORY, NODE_NAMES, NODES, type NodeName } from './layout.ts';
import { type MeshFiles, meshSignature, type PodTemplate, readMeshFiles } from './mesh-files.ts';
import { Pod } from './pod.ts';
import { array } from './pod-template.ts';
import { type EndpointPod, renderHosts, renderServiceRules } from './service-rules.ts';

const CLUSTER_DOMAIN = 'cluster.local';
const WATCH_INTERVAL_MS = 250;
const REFRESH_INTERVAL_MS = 2000;

export interface KubeletOptions {
  readonly meshDirectory: string;
  readonly pluginDirectories: readonly string[];
  /** Extra environment of every pod process. */
  readonly podEnv: Readonly<Record<string, string>>;
  readonly onPodLine: (pod: Pod, line: string) => void;
}

export class Kubelet {
  readonly #options: KubeletOptions;
  readonly #runtimes: Readonly<Record<NodeName, CniRuntime>>;
  readonly #pods = new Map<string, Pod>();
  readonly #listeners = new Set<() => void>();
  #files: MeshFiles = { pods: [], services: [], namespaces: new Map(), problems: [] };
  #signature = '';
  #timers: NodeJS.Timeout[] = [];
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: KubeletOptions) {
    this.#options = options;
    const runtime = (name: NodeName): CniRuntime =>
      new CniRuntime(cniChain(NODES[name]), {
        pluginDirectories: options.pluginDirectories,
        netns: NODES[name].namespace,
      });
    this.#runtimes = { a: runtime('a'), b: runtime('b') };
  }

  get pods(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  get files(): MeshFiles {
    return this.#files;
  }

  /** The CNI runtime of the pod's node. */
  runtimeOf(pod: Pod): CniRuntime {
    return this.#runtimes[pod.template.node];
  }

  findPod(key: string): Pod | undefined {
    return this.#pods.get(key);
  }

  /** Calls `listener` whenever a pod changed; the returned function ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Brings the pods up, resolves when all run, and goes on watching. Rejects, naming those that wait, when time is up. */
  async start(deadlineMs: number): Promise<void> {
    await this.#reconcile();
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(this.#describeWaiting(deadlineMs)), deadlineMs);
    await Promise.race([Promise.all(this.pods.map((pod) => pod.start())), late.promise]);
    clearTimeout(timer);
    await this.#publish();
    this.#timers = [
      setInterval(() => this.#enqueue(() => this.#reconcileWhenChanged()), WATCH_INTERVAL_MS),
      setInterval(() => this.#enqueue(() => this.#refresh()), REFRESH_INTERVAL_MS),
    ];
  }

  #describeWaiting(deadlineMs: number): AmbitError {
    const waiting = this.pods
      .filter((pod) => pod.state !== 'running')
      .map((pod) => `${pod.key} waits for its network: ${pod.lastError?.message ?? 'the first attempt goes on'}`);
    return new AmbitError('SANDBOX', `not up within ${deadlineMs / 1000} s: ${waiting.join('\n    ')}`);
  }

  /** Stops every pod, also those that still wait for their network. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#work;
    await Promise.all(this.pods.map((pod) => pod.stop()));
    this.#pods.clear();
  }

  /** One thing at a time; a tick that comes while another is at work is dropped. */
  #enqueue(task: () => Promise<void>): void {
    if (this.#busy || this.#stopped) return;
    this.#busy = true;
    this.#work = task()
      .catch(() => {})
      .finally(() => {
        this.#busy = false;
      });
  }
  #busy = false;

  async #reconcileWhenChanged(): Promise<void> {
    if ((await meshSignature(this.#options.meshDirectory)) !== this.#signature) await this.#reconcile();
  }

  async #refresh(): Promise<void> {
    for (const pod of this.pods) await pod.refresh();
  }

  async #reconcile(): Promise<void> {
    this.#signature = await meshSignature(this.#options.meshDirectory);
    this.#files = await readMeshFiles(this.#options.meshDirectory);
    await this.#writeHosts();
    await writeNamespaces(this.#files.namespaces);
    const wanted = new Map(this.#files.pods.map((template) => [`${template.namespace}/${template.name}`, template]));
    for (const [key, pod] of [...this.#pods]) {
      const template = wanted.get(key);
      if (template !== undefined && canStay(template, pod.template)) {
        if (!isDeepStrictEqual(template.object, pod.template.object)) await pod.relabel(template);
        continue;
      }
      this.#pods.delete(key);
      await pod.stop();
    }
    for (const [key, template] of wanted) {
      if (this.#pods.has(key)) continue;
      const pod: Pod = new Pod(template, {
        runtime: this.#runtimes[template.node],
        env: this.#options.podEnv,
        onLine: (line) => this.#options.onPodLine(pod, line),
        onChange: () => this.#changed(),
      });
      this.#pods.set(key, pod);
      // Waits for its network as long as it takes; its state tells how it goes.
      pod.start().catch(() => {});
    }
    await this.#publish();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
    if (!this.#stopped) void this.#publish().catch(() => {});
  }

  async #writeHosts(): Promise<void> {
    await mkdir(HOSTS_DIRECTORY, { recursive: true });
    const namespaces = new Set([...this.#files.namespaces.keys(), ...this.#files.pods.map((pod) => pod.namespace)]);
    for (const namespace of namespaces) {
      // Written in place: pods see the file through a bind mount, which a rename would leave behind.
      await writeFile(`${HOSTS_DIRECTORY}/${namespace}`, renderHosts(namespace, this.#files.services, CLUSTER_DOMAIN));
    }
  }

  async #publish(): Promise<void> {
    const script = renderServiceRules(
      this.#files.services,
      this.pods.filter((pod) => pod.ip !== undefined).map(endpointOf),
    );
    for (const name of NODE_NAMES) {
      await requireCommand(['nft', '-f', '-'], { netns: NODES[name].namespace, input: script });
    }
  }
}

/** A pod joins or leaves the mesh when it gets its network, hence a changed label of that kind means a new pod. */
function canStay(wanted: PodTemplate, running: PodTemplate): boolean {
  return isDeepStrictEqual(wanted.object.spec, running.object.spec) && wanted.eligible === running.eligible;
}

function endpointOf(pod: Pod): EndpointPod {
  const { template } = pod;
  const namedPorts = new Map<string, number>();
  const spec = isRecord(template.object.spec) ? template.object.spec : {};
  for (const container of array(spec.containers)) {
    for (const port of array(isRecord(container) ? container.ports : undefined)) {
      if (isRecord(port)) namedPorts.set(String(port.name), Number(port.containerPort));
    }
  }
  return { namespace: template.namespace, labels: template.labels, ip: pod.ip ?? '', namedPorts };
}
