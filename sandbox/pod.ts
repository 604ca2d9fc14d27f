/**
 * One pod of the sandbox from its network namespace to its process, in the order a kubelet goes: sandbox namespace, CNI
 * ADD (again and again until it succeeds), process; and back: process, CNI DEL, namespace.
 */
import { randomUUID } from 'node:crypto';
import { Backoff } from '../core/backoff.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { removePodObject, writePodObject } from './cluster-files.ts';
import type { CniContainer, CniResult, CniRuntime } from './cni.ts';
import { requireCommand, runCommand } from './command.ts';
import { HOSTS_DIRECTORY, netnsPath, podNamespace } from './layout.ts';
import type { PodTemplate } from './mesh-files.ts';
import { podCommand } from './pod-command.ts';
import { SupervisedProcess } from './supervised-process.ts';

export interface PodOptions {
  readonly runtime: CniRuntime;
  readonly env: Readonly<Record<string, string>>;
  /** A line the pod's process wrote to its standard output. */
  readonly onLine: (line: string) => void;
  /** The pod got its network, lost it, or a try failed. */
  readonly onChange: () => void;
}

export type PodState = 'creating' | 'waiting' | 'running' | 'stopped';

export class Pod {
  readonly netns: string;
  readonly uid: string = randomUUID();
  readonly container: CniContainer;
  readonly #options: PodOptions;
  readonly #startedAt = new Date().toISOString();
  readonly #stop = new AbortController();
  #template: PodTemplate;
  #state: PodState = 'creating';
  #network: CniResult | undefined;
  #enrolled = false;
  #process: SupervisedProcess | undefined;
  #starting: Promise<void> | undefined;
  #addAttempts = 0;
  #lastError: AmbitError | undefined;

  constructor(template: PodTemplate, options: PodOptions) {
    this.#template = template;
    this.#options = options;
    this.netns = podNamespace(template.namespace, template.name);
    this.container = {
      id: this.uid.replaceAll('-', ''),
      netnsPath: netnsPath(this.netns),
      interfaceName: 'eth0',
      args: {
        K8S_POD_NAMESPACE: template.namespace,
        K8S_POD_NAME: template.name,
        K8S_POD_UID: this.uid,
        K8S_POD_INFRA_CONTAINER_ID: this.uid.replaceAll('-', ''),
      },
    };
  }

  get template(): PodTemplate {
    return this.#template;
  }

  /** `namespace/name`. */
  get key(): string {
    return `${this.template.namespace}/${this.template.name}`;
  }

  get state(): PodState {
    return this.#state;
  }

  get ip(): string | undefined {
    return this.#network?.ips[0];
  }

  /** What the CNI chain answered; undefined until it did. */
  get network(): CniResult | undefined {
    return this.#network;
  }

  /** True when the node's agent carries the pod's traffic. */
  get enrolled(): boolean {
    return this.#enrolled;
  }

  get process(): SupervisedProcess | undefined {
    return this.#process;
  }

  get addAttempts(): number {
    return this.#addAttempts;
  }

  /** Why the last CNI ADD failed; undefined once one succeeded. */
  get lastError(): AmbitError | undefined {
    return this.#lastError;
  }

  /** Resolves when the pod runs; rejects when it was stopped before. Calling again gives the same promise. */
  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#starting?.catch(() => {});
    await this.#process?.stop();
    await this.#options.runtime.remove(this.container, this.#network).catch(() => {});
    await runCommand(['ip', 'netns', 'delete', this.netns]);
    await removePodObject(this.template);
    this.#state = 'stopped';
    this.#options.onChange();
  }

  /** Compares what is with what the status says and writes a new status when they differ. */
  async refresh(): Promise<void> {
    if (this.#network === undefined || this.#state === 'stopped') return;
    const enrolled = await this.#isRedirected();
    if (enrolled === this.#enrolled) return;
    this.#enrolled = enrolled;
    await this.#writeStatus();
    this.#options.onChange();
  }

  /** As the API server after an edit that leaves the pod running (labels, annotations). */
  async relabel(template: PodTemplate): Promise<void> {
    this.#template = template;
    await this.#writeStatus();
  }

  async #start(): Promise<void> {
    await requireCommand(['ip', 'netns', 'add', this.netns]);
    await requireCommand(['ip', '-n', this.netns, 'link', 'set', 'lo', 'up']);
    await this.#writeStatus();
    this.#network = await this.#connect();
    this.#enrolled = await this.#isRedirected();
    const [program, ...rest] = this.template.container.argv;
    const argv = [program === 'node' || program === undefined ? process.execPath : program, ...rest];
    this.#process = new SupervisedProcess({
      name: this.key,
      argv: podCommand(this.netns, `${HOSTS_DIRECTORY}/${this.template.namespace}`, argv),
      env: { POD_NAME: this.template.name, ...this.template.container.env, ...this.#options.env },
      onLine: this.#options.onLine,
    });
    this.#process.start();
    this.#state = 'running';
    await this.#writeStatus();
    this.#options.onChange();
  }

  /** CNI ADD until it succeeds; a failed one is undone first, as the specification asks of runtimes. */
  async #connect(): Promise<CniResult> {
    const backoff = new Backoff({ firstMs: 300, maxMs: 3000 });
    for (;;) {
      if (this.#stop.signal.aborted) throw new AmbitError('CLOSED', `pod ${this.key} was stopped`);
      this.#addAttempts++;
      try {
        const result = await this.#options.runtime.add(this.container);
        this.#lastError = undefined;
        return result;
      } catch (error) {
        this.#lastError = toAmbitError(error, 'CNI');
        this.#state = 'waiting';
        this.#options.onChange();
        await this.#options.runtime.remove(this.container, undefined).catch(() => {});
      }
      await delay(backoff.nextDelayMs(), this.#stop.signal);
    }
  }

  /** The truth is in the pod's namespace: the capture rules are there or not. */
  async #isRedirected(): Promise<boolean> {
    const answer = await runCommand(['nft', 'list', 'table', 'inet', 'ambit'], { netns: this.netns });
    return answer.status === 0 && answer.stdout.includes('redirect');
  }

  async #writeStatus(): Promise<void> {
    await writePodObject(this.template, {
      uid: this.uid,
      ...(this.ip === undefined ? {} : { ip: this.ip }),
      enrolled: this.#enrolled,
      ready: this.#state === 'running',
      startedAt: this.#startedAt,
    });
  }
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener('abort', finish);
  });
}
