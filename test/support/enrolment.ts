/**
 * Fixture for enrolment tests: one node with pods, a directory that knows them, an enrolment with a stand-in data plane,
 * and a picture of everything that enrolment may change in a pod.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Enrolment, type EnrolmentOptions } from '../../agent/enrol/enrolment.ts';
import type { DirectoryChange, NamespaceFacts, PodDirectory, PodFacts } from '../../agent/enrol/pod-directory.ts';
import type { PodRequest } from '../../core/enrolment/cni-wire.ts';
import { DEFAULT_ELIGIBILITY } from '../../core/enrolment/eligibility.ts';
import { getIp } from '../../core/ip.ts';
import { TestNetwork, type TestNode, type TestPod } from './netns.ts';
import { StandInCapture } from './stand-in-capture.ts';

/** Knows what the test puts in; namespace `demo` is in the mesh, `plain` is not. */
export class TestDirectory implements PodDirectory {
  readonly #pods = new Map<string, PodFacts>();
  readonly synced = true;
  readonly namespaces = new Map<string, NamespaceFacts>([
    ['demo', { name: 'demo', labels: { 'istio.io/dataplane-mode': 'ambient' } }],
    ['plain', { name: 'plain', labels: {} }],
  ]);
  readonly #listeners = new Set<(change: DirectoryChange) => void>();

  put(name: string, facts: Partial<PodFacts> = {}): void {
    const pod: PodFacts = {
      namespace: 'demo',
      name,
      uid: undefined,
      nodeName: undefined,
      serviceAccount: 'default',
      hostNetwork: false,
      labels: {},
      annotations: {},
      ips: [],
      ...facts,
    };
    this.#pods.set(`${pod.namespace}/${name}`, pod);
    this.#tell({ kind: 'pod', namespace: pod.namespace, name });
  }

  remove(name: string, namespace = 'demo'): void {
    this.#pods.delete(`${namespace}/${name}`);
    this.#tell({ kind: 'pod', namespace, name });
  }

  /** Forgets every pod, without telling anybody. */
  clear(): void {
    this.#pods.clear();
  }

  /** Gives a namespace these labels. */
  label(name: string, labels: Readonly<Record<string, string>>): void {
    this.namespaces.set(name, { name, labels });
    this.#tell({ kind: 'namespace', name });
  }

  pods(): Iterable<PodFacts> {
    return this.#pods.values();
  }

  findPod(namespace: string, name: string): PodFacts | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  findNamespace(name: string): NamespaceFacts | undefined {
    return this.namespaces.get(name);
  }

  onChange(listener: (change: DirectoryChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {}

  #tell(change: DirectoryChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

export class EnrolmentWorld implements AsyncDisposable {
  readonly network = TestNetwork.create({ ipv6: true });
  readonly node: TestNode = this.network.addNode();
  readonly directory = new TestDirectory();
  readonly runDirectory: string;
  readonly #made: { enrolment: Enrolment; capture: StandInCapture }[] = [];

  private constructor(runDirectory: string) {
    this.runDirectory = runDirectory;
  }

  static async create(): Promise<EnrolmentWorld> {
    return new EnrolmentWorld(await mkdtemp(join(tmpdir(), 'ambit-enrol-')));
  }

  /** An agent's enrolment over this world's run directory; a second one is the next agent after a restart. */
  async open(options: Partial<EnrolmentOptions> = {}): Promise<{ enrolment: Enrolment; capture: StandInCapture }> {
    const capture = new StandInCapture();
    const { directory, runDirectory } = this;
    const enrolment = await Enrolment.open({
      runDirectory,
      directory,
      capture,
      eligibility: DEFAULT_ELIGIBILITY,
      podWaitMs: 2_000,
      ...options,
    });
    this.#made.push({ enrolment, capture });
    return { enrolment, capture };
  }

  /** A pod with an IPv4 and an IPv6 address that the directory knows by its label. */
  addPod(label: string, facts: Partial<PodFacts> = {}): TestPod {
    const pod = this.node.addPod(label);
    this.directory.put(label, facts);
    return pod;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { enrolment, capture } of this.#made) {
      await enrolment.close();
      await capture[Symbol.asyncDispose]();
    }
    await this.network[Symbol.asyncDispose]();
    await rm(this.runDirectory, { recursive: true, force: true });
  }
}

/** What a runtime would send for the pod. */
export function requestFor(pod: TestPod, changes: Partial<PodRequest> = {}): PodRequest {
  return {
    attachment: { containerId: `sandbox-${pod.label}`, ifName: 'eth0' },
    pod: { namespace: 'demo', name: pod.label, uid: `uid-${pod.label}` },
    netns: pod.path,
    ips: [getIp(pod.address), getIp(pod.address6)],
    ...changes,
  };
}

/** Rules with handles, routing rules and table 100, as the tools print them. */
export function pictureOf(pod: TestPod): string {
  return [
    pod.exec('nft', '-a', 'list', 'ruleset'),
    pod.ip('rule'),
    pod.ip('-6 rule'),
    tableOf(pod, '-4'),
    tableOf(pod, '-6'),
  ].join('---\n');
}

/** Without counters, which move with the traffic. */
export function quietPictureOf(pod: TestPod): string {
  return pictureOf(pod).replaceAll(/packets [0-9]+ bytes [0-9]+/g, 'packets N bytes N');
}

/** A table that never had a route makes `ip` fail; one that lost its routes prints nothing. */
function tableOf(pod: TestPod, family: '-4' | '-6'): string {
  try {
    return pod.ip(`${family} route show table 100`);
  } catch {
    return '';
  }
}
