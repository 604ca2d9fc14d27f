/**
 * What an agent does for its node beyond carrying connections: it follows the agent before it, enrols pods, keeps the CNI
 * plugin installed, hands over to the agent after it, and decides at its end whether things stay or go.
 *
 *     start   predecessor's listeners -> enrolment (restored pods go on with them) -> hand-over socket -> plugin
 *     lend    plugin left, enrolment closed, listeners lent -> retired, or everything taken up again
 *     end     replaced: left as it stands      removed: taken off the node
 */
import { eligibilitySettings } from '../core/enrolment/eligibility.ts';
import { REMOVAL_EVENT, REMOVAL_INCOMPLETE_EVENT } from '../core/enrolment/removal.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import { AGENT_VERSION } from '../core/version.ts';
import { KubeClient } from '../kube/client.ts';
import { type EventNote, EventRecorder } from '../kube/events.ts';
import { type AgentConfig, KUBERNETES } from './config.ts';
import { type CutReport, cutEvents } from './cut-report.ts';
import type { Dataplane } from './dataplane/dataplane.ts';
import type { LentListener } from './dataplane/messages.ts';
import type { PodCapture } from './dataplane/pod-capture.ts';
import { openFolderSource, openKubernetesSource, type PodSource } from './enrol/pod-source.ts';
import { type EnrolmentService, startEnrolment } from './enrol/service.ts';
import { HandoverServer } from './handover/predecessor.ts';
import { succeed } from './handover/succession.ts';
import { Predecessor } from './handover/successor.ts';
import type { Departure } from './install/departure.ts';
import { Installation } from './install/installation.ts';
import { findDeparture } from './install/owner.ts';
import { type RemovalReport, removeFromNode } from './removal.ts';

const log = logger('node');

/** The annotations of pods that were let go: as long as they stand, peers tunnel to nobody. */
const STATUS_WRITTEN_WITHIN_MS = 3_000;
/** Agents of other nodes hear within this time that pods are no longer tunnelled to, or are being removed themselves. */
const HEARD_OF_WITHIN_MS = 3_000;
/** How often an agent that stops looks whether somebody still has a connection. */
const LOOK_INTERVAL_MS = 250;
/** How often an agent that was followed looks whether its successor is there, and how often in vain before it acts. */
const SUCCESSOR_LOOK_MS = 500;
const UNSEEN_LOOKS = 3;

export interface NodeServiceOptions {
  readonly config: AgentConfig;
  /** Who tells of pods: `kubernetes` or a folder. */
  readonly podSource: string;
  readonly dataplane: Dataplane;
  /** The data plane with the certificates of its pods. */
  readonly capture: PodCapture;
  /** Undefined when pods can be captured, otherwise what is missing. */
  readonly notReady: () => string | undefined;
  /** Resolves when this agent could carry the connections of the pods of a former agent. Never rejects. */
  readonly prepared: () => Promise<void>;
  /** This agent has been followed, and whoever followed it is gone: nobody serves the node. Called once. */
  readonly abandoned: () => void;
}

export class NodeService {
  readonly #options: NodeServiceOptions;
  #podSource: PodSource | undefined;
  #enrolment: EnrolmentService | undefined;
  #handover: HandoverServer | undefined;
  #installation: Installation | undefined;
  #retired = false;
  #watch: NodeJS.Timeout | undefined;
  /** Looks in a row that found no successor. */
  #unseen = 0;

  private constructor(options: NodeServiceOptions) {
    this.#options = options;
  }

  /** Resolves when the pods of the node are served and the plugin can call. Rejects with an AmbitError. */
  static async start(options: NodeServiceOptions): Promise<NodeService> {
    const service = new NodeService(options);
    try {
      await service.#start();
    } catch (thrown) {
      await service.close();
      throw thrown;
    }
    return service;
  }

  /** True when another agent has taken over: this one only lets its connections end. */
  get retired(): boolean {
    return this.#retired;
  }

  get enrolment(): EnrolmentService | undefined {
    return this.#enrolment;
  }

  get installation(): Installation | undefined {
    return this.#installation;
  }

  /** What is not as it should be and is being tried again, in words. */
  problems(): string[] {
    return [...(this.#podSource?.problems() ?? []), ...(this.#enrolment?.problems() ?? []), ...this.missing()];
  }

  /** Why the agent was asked to stop; without a cluster it is only replaced. */
  async findDeparture(): Promise<Departure> {
    const { daemonSet, podNamespace, nodeName } = this.#options.config;
    if (this.#retired) return { kind: 'replaced', reason: 'another agent has taken over' };
    if (daemonSet === undefined) return { kind: 'replaced', reason: 'this agent belongs to no DaemonSet' };
    const client = this.#openClient();
    try {
      return await findDeparture(client, { namespace: podNamespace, daemonSet, node: nodeName });
    } finally {
      client.close();
    }
  }

  /** What keeps the node from being ready although its pods are served, in words. */
  missing(): string[] {
    const installed = this.#installation?.status();
    return installed?.state === 'incomplete' ? [`CNI plugin: ${installed.problem}`] : [];
  }

  /** Goes on as before until another agent has taken over, no connection lives, or it is `deadlineMs`. */
  async awaitSuccessor(deadlineMs: number): Promise<void> {
    // Without a DaemonSet nobody will come.
    if (this.#options.config.daemonSet !== undefined) await this.#serveOn(performance.now(), deadlineMs);
  }

  /** Tells as Events whose connections were cut. */
  async tellCuts(report: CutReport): Promise<void> {
    await this.#record(cutEvents(this.#options.config.nodeName, report));
  }

  /**
   * Takes the mesh off the node and tells so as an Event on the Node. `drain` ends connections; until `deadlineMs` they may
   * end by themselves, and those are still served that come from peers who have not heard of it.
   */
  async remove(deadlineMs: number, drain: () => Promise<number>): Promise<RemovalReport | undefined> {
    const [enrolment, installation] = [this.#enrolment, this.#installation];
    if (enrolment === undefined) return undefined;
    this.#installation = undefined;
    await this.#handover?.close();
    this.#handover = undefined;
    // Labels may still ask for the mesh: from here on nobody follows them.
    await enrolment.quiesce();
    const { runDirectory, hostNetns, hostRoot } = this.#options.config;
    const report = await removeFromNode({
      installation,
      enrolment: enrolment.enrolment,
      runDirectory,
      hostRoot,
      hostNetns,
      drain: async () => {
        await this.#serveOn(performance.now() + HEARD_OF_WITHIN_MS, deadlineMs);
        return await drain();
      },
    });
    await this.#podSource?.settled(STATUS_WRITTEN_WITHIN_MS);
    await this.#tell(report);
    return report;
  }

  /** Ends enrolment and leaves everything on the node as it stands, for the next agent. */
  async close(): Promise<void> {
    const { dataplane } = this.#options;
    clearInterval(this.#watch);
    await this.#handover?.close();
    this.#handover = undefined;
    await this.#stopServing();
    dataplane.endInheritance();
  }

  /** Until `earliestMs` at least, then until no connection lives or another agent has taken over; never beyond `deadlineMs`. */
  async #serveOn(earliestMs: number, deadlineMs: number): Promise<void> {
    const { dataplane } = this.#options;
    for (let nowMs = performance.now(); nowMs < deadlineMs; nowMs = performance.now()) {
      if (this.#retired) return;
      if (nowMs >= earliestMs && (await dataplane.connections()).length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
    }
  }

  async #start(): Promise<void> {
    const { config, dataplane, prepared } = this.#options;
    using succession = await succeed({ runDirectory: config.runDirectory, prepared });
    if (succession !== undefined) dataplane.inherit(succession.listeners);
    await this.#serve();
    dataplane.endInheritance();
    // What fails until here leaves the other agent in charge, and so does a plugin that cannot be installed.
    const missing = this.missing();
    if (succession !== undefined && missing.length > 0) throw new AmbitError('CONFIGURATION', missing.join('; '));
    await succession?.confirm();
    this.#handover = await HandoverServer.open(config.runDirectory, {
      lend: () => this.#lend(),
      keep: () => this.#takeUpAgain(),
      retire: () => this.#retire(),
    });
  }

  async #serve(): Promise<void> {
    const { config, capture, notReady } = this.#options;
    const podSource = await this.#openPodSource();
    this.#podSource = podSource;
    this.#enrolment = await startEnrolment({
      runDirectory: config.runDirectory,
      directory: podSource.directory,
      observer: podSource.observer,
      node: { hostNetns: config.hostNetns, hostProc: config.hostProc },
      selfTest: config.selfTest,
      ...(this.#options.podSource === KUBERNETES ? { netnsDirectories: config.netnsDirectories } : {}),
      capture,
      eligibility: eligibilitySettings(config.excludedNamespaces),
      notReady,
    });
    this.#installation = await this.#install();
  }

  async #install(): Promise<Installation | undefined> {
    const { config } = this.#options;
    if (config.cniExecutable === undefined) return undefined;
    return await Installation.start({
      hostRoot: config.hostRoot,
      hostProc: config.hostProc,
      binaryFolder: config.cniBinaryFolder,
      configFolder: config.cniConfigFolder,
      executable: config.cniExecutable,
      entry: {
        runDir: config.runDirectory,
        excludeNamespaces: config.excludedNamespaces,
        agentNamespace: config.podNamespace,
        agentPodPrefix: `${config.daemonSet ?? 'ambit-agent'}-`,
      },
    });
  }

  async #stopServing(): Promise<void> {
    const [installation, enrolment, podSource] = [this.#installation, this.#enrolment, this.#podSource];
    this.#installation = undefined;
    this.#enrolment = undefined;
    this.#podSource = undefined;
    await installation?.leave();
    await enrolment?.close();
    await podSource?.close();
  }

  async #lend(): Promise<readonly LentListener[]> {
    await this.#stopServing();
    return await this.#options.dataplane.lendListeners();
  }

  async #takeUpAgain(): Promise<void> {
    this.#options.dataplane.keepListeners();
    try {
      await this.#serve();
    } catch (thrown) {
      // Captured pods are served all the same; new ones wait until the next agent, or this one's restart.
      log.error(
        { reason: toAmbitError(thrown, 'USAGE').message },
        'enrolment could not go on after a failed hand-over',
      );
    }
  }

  #retire(): void {
    this.#retired = true;
    this.#options.dataplane.retire();
    this.#watch = setInterval(() => void this.#lookForSuccessor(), SUCCESSOR_LOOK_MS).unref();
  }

  /** A rollout that is taken back may end the successor and keep this agent, which listens to nobody any more. */
  async #lookForSuccessor(): Promise<void> {
    // Our own socket must not pass for the successor's.
    await this.#handover?.close();
    this.#handover = undefined;
    using successor = await Predecessor.find(this.#options.config.runDirectory);
    this.#unseen = successor === undefined ? this.#unseen + 1 : 0;
    if (this.#unseen < UNSEEN_LOOKS) return;
    clearInterval(this.#watch);
    this.#options.abandoned();
  }

  async #openPodSource(): Promise<PodSource> {
    const { config, podSource } = this.#options;
    if (podSource !== KUBERNETES) return await openFolderSource(podSource);
    return openKubernetesSource({
      kubeconfig: config.kubeconfig,
      nodeName: config.nodeName,
      instance: config.podName,
    });
  }

  #openClient(): KubeClient {
    return KubeClient.open({ kubeconfig: this.#options.config.kubeconfig, userAgent: `ambit-agent/${AGENT_VERSION}` });
  }

  async #tell({ pods, cut, left }: RemovalReport): Promise<void> {
    const clean = left.length === 0;
    const released = `${pods} pods released, ${cut} connections cut`;
    await this.#record([
      {
        regarding: { apiVersion: 'v1', kind: 'Node', namespace: '', name: this.#options.config.nodeName },
        type: clean ? 'Normal' : 'Warning',
        reason: clean ? REMOVAL_EVENT : REMOVAL_INCOMPLETE_EVENT,
        action: 'Remove',
        note: clean ? `${released}, plugin, rules and files removed` : `${released}; left: ${left.join('; ')}`,
      },
    ]);
  }

  /** Resolves when they are written, or cannot be. Never rejects. */
  async #record(notes: readonly EventNote[]): Promise<void> {
    if (this.#options.podSource !== KUBERNETES || notes.length === 0) return;
    const client = this.#openClient();
    try {
      const events = new EventRecorder(client, 'ambit.io/agent', this.#options.config.podName);
      for (const note of notes) events.record(note);
      await events.flush();
    } catch (thrown) {
      const error = toAmbitError(thrown, 'KUBERNETES_API');
      log.warn({ reason: error.message }, 'the end of the agent could not be told as an event');
    } finally {
      client.close();
    }
  }
}
