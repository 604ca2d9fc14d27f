/**
 * Enrolment as the agent starts and stops it: take up the pods of the former run, write the rules of the node, serve the
 * CNI plugin, follow the labels of running pods, and sweep.
 *
 *     directory (folder | API server) -> admission of CNI calls, running pods
 *     enrolment -> status writer -> API server
 */
import { Backoff } from '../../core/backoff.ts';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { CniServer, type CniServerOptions } from './cni-server.ts';
import { Enrolment, type EnrolmentOptions } from './enrolment.ts';
import { HostProbes } from './host-probes.ts';
import { probeNft } from './nft.ts';
import { type EnrolmentObserver, NO_OBSERVER } from './observer.ts';
import { keyOf, type PodView } from './pod-entry.ts';
import type { NetnsIdentity, NodeView } from './pod-netns.ts';
import type { RestoreReport } from './restore-report.ts';
import { RunningPods } from './running-pods.ts';

const log = logger('enrol');

const SWEEP_INTERVAL_MS = 15_000;
/** A pod that could not be taken up is cut off, so it is tried again soon, then ever less often. */
const FIRST_RETRY_MS = 250;

export type EnrolmentServiceOptions = Omit<EnrolmentOptions, 'probes'> &
  Pick<CniServerOptions, 'notReady'> & {
    /** Folders where runtimes mount network namespaces; absent: pods are enrolled by their CNI call only. */
    readonly netnsDirectories?: readonly string[];
  };

export interface EnrolmentService {
  readonly enrolment: Enrolment;
  readonly restored: RestoreReport;
  list(): PodView[];
  /** What is not as it should be and is being tried again, in words. */
  problems(): string[];
  /** Are connections of the kubelet recognised? `recognised`, or why not, in words. */
  probes(): string;
  /**
   * Nothing is begun any more: no CNI call is served, no label followed, nothing swept, no rule of the node put back. Pods
   * that are held stay served and can be let go. For an agent that takes the mesh off the node; `close` still has to follow.
   */
  quiesce(): Promise<void>;
  /** Stops serving; pods keep their rules (an agent that restarts takes them up, until then they fail closed). */
  close(): Promise<void>;
}

/** Resolves when restored pods are captured again and the plugin can call. Rejects with `MISSING_TOOL` without nft. */
export async function startEnrolment(options: EnrolmentServiceOptions): Promise<EnrolmentService> {
  // Pods that are cut off wait for what follows, so it does not wait for this.
  const usable = probeNft();
  usable.catch(() => undefined);
  const { node = {}, observer = NO_OBSERVER, directory, eligibility } = options;
  const probes = openHostProbes(node);
  let running: RunningPods | undefined;
  const told: EnrolmentObserver = {
    podChanged: (pod, report) => {
      observer.podChanged(pod, report);
      // What was let go may be wanted under other circumstances: another pod of its name, another reason.
      if (report.kind === 'gone') running?.look(keyOf(pod));
    },
  };
  const enrolment = await Enrolment.open({ ...options, observer: told, ...(probes === undefined ? {} : { probes }) });
  const restored = await enrolment.restore();
  await usable;
  await probes?.start();
  const server = await CniServer.open({ ...options, enrolment });
  if (options.netnsDirectories !== undefined) {
    const netns = {
      sandboxes: enrolment.sandboxes,
      directories: options.netnsDirectories,
      hostProc: node.hostProc,
      hostNetns: node.hostNetns,
      findHolder: (held: NetnsIdentity) => enrolment.findHolder(held),
    };
    const { notReady } = options;
    running = new RunningPods({ directory, enrolment, eligibility, observer, netns, notReady });
  }
  const sweeper = new Sweeper(enrolment, probes);
  const quiesce = async (): Promise<void> => {
    await sweeper.close();
    await running?.close();
    await server.close();
    await probes?.stop();
  };
  return {
    enrolment,
    restored,
    list: () => enrolment.list(),
    problems: () => [
      ...(probes?.problem === undefined ? [] : [`rules of the node: ${probes.problem}`]),
      ...(running?.failing() ?? []).map(({ key, attempts, reason }) => `pod ${key}: ${reason} (attempt ${attempts})`),
    ],
    probes: () => (probes === undefined ? 'the network of the node is not visible' : (probes.problem ?? 'recognised')),
    quiesce,
    close: async () => {
      await quiesce();
      await enrolment.close();
      await probes?.close();
    },
  };
}

/** A node whose namespace cannot be opened is told of; probes are then judged like all traffic. */
function openHostProbes({ hostNetns, hostProc }: NodeView): HostProbes | undefined {
  if (hostNetns === undefined) return undefined;
  try {
    return HostProbes.open({ hostNetns, hostProc });
  } catch (thrown) {
    const { message } = toAmbitError(thrown, 'NETNS');
    log.error({ path: hostNetns, reason: message }, 'the network of the node cannot be opened: probes are not exempt');
    return undefined;
  }
}

/** Sweeps over the pods and the rules of the node from time to time, one sweep after another. */
class Sweeper {
  readonly #enrolment: Enrolment;
  readonly #probes: HostProbes | undefined;
  readonly #backoff = new Backoff({ firstMs: FIRST_RETRY_MS, maxMs: SWEEP_INTERVAL_MS });
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(enrolment: Enrolment, probes: HostProbes | undefined) {
    this.#enrolment = enrolment;
    this.#probes = probes;
    this.#schedule();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(): void {
    if (this.#closed) return;
    const broken = this.#enrolment.list().some(({ state }) => state === 'broken');
    if (!broken) this.#backoff.reset();
    this.#timer = setTimeout(
      () => {
        this.#running = this.#sweep();
      },
      broken ? this.#backoff.nextDelayMs() : SWEEP_INTERVAL_MS,
    ).unref();
  }

  async #sweep(): Promise<void> {
    try {
      await this.#enrolment.sweep();
      await this.#probes?.check();
    } catch (thrown) {
      log.warn({ reason: toAmbitError(thrown, 'NETNS').message }, 'the sweep over pods was cut short');
    }
    this.#schedule();
  }
}
