/**
 * The one owner of every enrolled pod on the node. Answers the CNI plugin's calls, brings running pods in and lets them
 * leave when their labels change, takes pods of a former run up again, and drops pods whose namespace is gone. The steps
 * themselves are in pod-steps.ts, the states in pod-entry.ts, which pods should be in is decided in enrolment-plan.ts.
 *
 * Work on one pod runs strictly one piece after another, work on different pods side by side.
 */
import type { AgentAnswer, Attachment, DelRequest, GcRequest, PodRequest } from '../../core/enrolment/cni-wire.ts';
import type { EligibilitySettings } from '../../core/enrolment/eligibility.ts';
import type { TrafficOverrides } from '../../core/enrolment/overrides.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { PodCapture } from '../dataplane/pod-capture.ts';
import { type AdmissionOptions, admit } from './admission.ts';
import { orderOfRequest } from './capture-order.ts';
import type { HeldPod } from './enrolment-plan.ts';
import { ForeignListeners } from './foreign-listeners.ts';
import { LeavingPods } from './leaving-pods.ts';
import { MAX_PODS, MAX_WAITING_PER_POD } from './limits.ts';
import { NetnsClaims } from './netns-claims.ts';
import { type EnrolmentObserver, NO_OBSERVER } from './observer.ts';
import type { PodDirectory, PodFacts } from './pod-directory.ts';
import { enrolledEntry, heldPodOf, keyOf, type PodEntry, type PodView, storedOf, viewOf } from './pod-entry.ts';
import { findIdentity, type NetnsIdentity, type NodeView, pathStillLeadsTo } from './pod-netns.ts';
import {
  type CapturedPod,
  type CaptureOrder,
  capturePod,
  dropPod,
  inspectPod,
  NO_EXEMPTIONS,
  type ProbeExemptions,
  reapplyRules,
  recapturePod,
  releasePod,
  resumeLeaving,
  type StepTools,
  startLeaving,
  stopLeaving,
} from './pod-steps.ts';
import { PodStore } from './pod-store.ts';
import { type Restored, type RestoreReport, restoreAll } from './restore-report.ts';
import { SandboxStore } from './sandbox-store.ts';
import { SelfTests } from './self-tests.ts';
import { SerialQueue } from './serial-queue.ts';
import type { StoredPod } from './stored-pod.ts';

const log = logger('enrol');

const DEFAULT_POD_WAIT_MS = 4_000;
export interface EnrolmentOptions {
  readonly runDirectory: string;
  readonly directory: PodDirectory;
  readonly capture: PodCapture;
  readonly eligibility: EligibilitySettings;
  /** How long a CNI call waits for an unknown pod to become known; below the plugin's own time limit. */
  readonly podWaitMs?: number;
  readonly observer?: EnrolmentObserver;
  readonly probes?: ProbeExemptions;
  readonly node?: NodeView;
  /** Undefined when new pods can be captured, otherwise what is missing; they wait then, pods outside the mesh do not. */
  readonly notReady?: () => string | undefined;
  /** Whether a connection from inside each pod must prove that it is redirected. Default: no. */
  readonly selfTest?: boolean;
  /** How long a pod that leaves keeps its listeners at least, for peers that have not heard of it yet. */
  readonly leavingQuietMs?: number;
}

export class Enrolment {
  readonly sandboxes: SandboxStore;
  readonly #admission: AdmissionOptions;
  readonly #notReady: () => string | undefined;
  readonly #tools: StepTools;
  readonly #observer: EnrolmentObserver;
  readonly #selfTests: SelfTests | undefined;
  readonly #leaving: LeavingPods;
  readonly #entries = new Map<string, PodEntry>();
  readonly #foreign = new ForeignListeners();
  readonly #queue = new SerialQueue(MAX_WAITING_PER_POD);

  private constructor(options: EnrolmentOptions, store: PodStore, sandboxes: SandboxStore) {
    const { capture, probes = NO_EXEMPTIONS, node = {}, observer = NO_OBSERVER } = options;
    this.sandboxes = sandboxes;
    this.#admission = { ...options, waitMs: options.podWaitMs ?? DEFAULT_POD_WAIT_MS };
    this.#notReady = options.notReady ?? (() => undefined);
    this.#tools = { capture, store, claims: new NetnsClaims(), probes, node };
    this.#observer = observer;
    this.#selfTests = options.selfTest === true ? new SelfTests(observer) : undefined;
    this.#leaving = new LeavingPods(capture, options.leavingQuietMs, (key) => this.#finishLeaving(key));
  }

  static async open(options: EnrolmentOptions): Promise<Enrolment> {
    const { runDirectory } = options;
    return new Enrolment(options, await PodStore.open(runDirectory), await SandboxStore.open(runDirectory));
  }

  /** Every pod that is held, in the order of arrival. */
  list(): PodView[] {
    return [...this.#entries].map(([key, entry]) => viewOf(entry, this.#foreign.find(key)));
  }

  findHeld(key: string): HeldPod | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined ? undefined : heldPodOf(entry);
  }

  /** UID of the pod that holds a namespace. */
  findHolder(netns: NetnsIdentity): string | undefined {
    return this.#tools.claims.findOwner(netns);
  }

  /** Enrols an eligible pod; resolves when its traffic is captured. Repeating it is fine. Rejects with an AmbitError. */
  async add(request: PodRequest): Promise<AgentAnswer> {
    const admission = await admit(request.pod, this.#admission);
    await this.#remember(request, admission.pod);
    if (admission.kind === 'ineligible') return { kind: 'ignored', detail: admission.detail };
    const key = keyOf(request.pod);
    try {
      const missing = this.#notReady();
      if (missing !== undefined) throw new AmbitError('AGENT_UNREACHABLE', `the agent is not ready: ${missing}`);
      const order = orderOfRequest(request, admission.pod);
      return await this.#queue.run(key, () => this.#enrol(key, order));
    } catch (thrown) {
      const { code, message: detail } = toAmbitError(thrown, 'NETNS');
      const uid = admission.pod.uid ?? request.pod.uid;
      if (uid !== undefined) this.#observer.podChanged({ ...request.pod, uid }, { kind: 'pending', code, detail });
      throw thrown;
    }
  }

  /** Brings a running pod in, or back in while it is leaving. Rejects with an AmbitError after everything was undone. */
  async enrolRunning(order: CaptureOrder): Promise<void> {
    const key = keyOf(order.pod);
    await this.#queue.run(key, async () => {
      const entry = this.#entries.get(key);
      if (entry?.state === 'leaving') {
        this.#leaving.forget(key);
        this.#become(key, enrolledEntry(await stopLeaving(this.#tools, entry.captured, order.overrides)));
        log.info({ pod: key }, 'a pod that was leaving is captured again');
      } else if (entry === undefined) await this.#capture(key, order);
    });
  }

  /** Replaces the rules of a pod that is in. */
  async reapply(key: string, overrides: TrafficOverrides): Promise<void> {
    await this.#queue.run(key, async () => {
      const entry = this.#entries.get(key);
      if (entry?.state !== 'enrolled') return;
      this.#entries.set(key, enrolledEntry(await reapplyRules(this.#tools, entry.captured, overrides)));
      log.info({ pod: key, overrides }, 'the rules of a pod follow its annotations');
    });
  }

  /** New connections of the pod are plain at once; the rest is removed when its last captured connection has ended. */
  async leave(key: string, detail: string): Promise<void> {
    await this.#queue.run(key, async () => {
      const entry = this.#entries.get(key);
      if (entry?.state !== 'enrolled') return;
      this.#selfTests?.forget(entry.pod.uid);
      this.#entries.set(key, enrolledEntry(await startLeaving(this.#tools, entry.captured), 'leaving'));
      log.info({ pod: key, reason: detail }, 'a pod leaves the mesh');
      this.#observer.podChanged(entry.pod, { kind: 'leaving', detail });
      this.#leaving.watch(key, entry.pod.uid);
    });
  }

  /** Lets a pod go at once, whatever its state. */
  async release(key: string): Promise<void> {
    await this.#queue.run(key, async () => {
      const entry = this.#entries.get(key);
      if (entry !== undefined) await this.#release(key, entry);
    });
  }

  /** Lets the pod of an attachment go. An unknown attachment is fine: nothing of ours is left then. */
  async del(request: DelRequest): Promise<AgentAnswer> {
    const sandbox = this.sandboxes.findByAttachment(request.attachment);
    if (sandbox !== undefined) await this.sandboxes.remove(sandbox.uid);
    // A pod that is just being brought in has no attachment yet: the sandbox knows its name.
    const named = request.pod ?? sandbox;
    const key = this.#findKey(request.attachment) ?? (named === undefined ? undefined : keyOf(named));
    if (key === undefined) return { kind: 'ignored', detail: 'nothing is held for this attachment' };
    return await this.#queue.run(key, () => this.#releaseAttachment(key, request.attachment));
  }

  /** Proves that a pod that should be captured is captured and served. Rejects naming everything that is not. */
  async check(request: PodRequest): Promise<AgentAnswer> {
    const key = keyOf(request.pod);
    const state = this.#entries.get(key)?.state;
    if (state === 'leaving') return { kind: 'ignored', detail: 'the pod is leaving the mesh' };
    if (state === undefined) {
      const admission = await admit(request.pod, this.#admission);
      if (admission.kind === 'ineligible') return { kind: 'ignored', detail: admission.detail };
    }
    return await this.#queue.run(key, () => this.#inspect(key, request));
  }

  /** Lets every pod go whose attachment is not listed. */
  async gc(request: GcRequest): Promise<AgentAnswer> {
    const valid = new Set(request.validAttachments.map(attachmentKey));
    for (const { uid, attachment } of [...this.sandboxes.all()]) {
      if (!valid.has(attachmentKey(attachment))) await this.sandboxes.remove(uid);
    }
    const stale = [...this.#entries].flatMap(([key, entry]) => {
      const attachment = storedOf(entry)?.attachment;
      return attachment === undefined || valid.has(attachmentKey(attachment)) ? [] : [{ key, attachment }];
    });
    await Promise.all(
      stale.map(({ key, attachment }) => this.#queue.run(key, () => this.#releaseAttachment(key, attachment))),
    );
    return { kind: 'done', detail: `${stale.length} pods were let go` };
  }

  /** Takes the pods of a former run up again; once, before the first CNI call is served. */
  async restore(): Promise<RestoreReport> {
    const { pods, corrupt } = await this.#tools.store.load();
    for (const { file, error } of corrupt) {
      log.error({ file, reason: error.message }, 'the state file of a pod is unreadable and was set aside');
    }
    const report = await restoreAll(pods, corrupt.length, (stored) =>
      this.#queue.run(keyOf(stored.pod), () => this.#restoreOne(stored)),
    );
    if (pods.length + corrupt.length > 0) log.info(report, 'pods of the former run were taken up again');
    return report;
  }

  /**
   * Drops pods whose namespace vanished without a DEL, tries broken ones again, and notices pods that listen on ports of
   * ours themselves (a process of the same user may join a port with SO_REUSEPORT at any time). Call it now and then.
   */
  async sweep(): Promise<void> {
    for (const [key, entry] of [...this.#entries]) {
      const stored = storedOf(entry);
      if (stored === undefined) continue;
      const gone = !pathStillLeadsTo(stored.netns.path, stored.netns);
      if (gone) await this.release(key);
      else if (entry.state === 'broken') await this.#queue.run(key, () => this.#retryBroken(key));
    }
    await this.sandboxes.sweep();
    this.#foreign.look(this.#entries);
  }

  /** Ends ownership without touching a pod: its rules stay, so it fails closed until a new agent takes it up. */
  async close(): Promise<void> {
    this.#leaving.close();
    this.#selfTests?.close();
    await this.#queue.idle();
    for (const entry of this.#entries.values()) {
      if (entry.state === 'enrolled' || entry.state === 'leaving') entry.captured.abandon();
    }
    this.#entries.clear();
  }

  /** So that a pod that is labelled later is found where the runtime said. The namespace itself is verified when it is used. */
  async #remember({ attachment, netns, ips, pod }: PodRequest, facts: PodFacts | undefined): Promise<void> {
    const uid = pod.uid ?? facts?.uid;
    const identity = findIdentity(netns);
    if (uid === undefined || identity === undefined) return;
    await this.sandboxes.save({ ...pod, uid, attachment, netns: { path: netns, ...identity }, ips });
  }

  async #enrol(key: string, order: CaptureOrder): Promise<AgentAnswer> {
    const present = this.#entries.get(key);
    const attachment = storedOf(present)?.attachment;
    // A second interface of the same sandbox: rules and listeners cover the whole namespace already.
    if (attachment?.containerId === order.attachment?.containerId && attachment?.ifName !== order.attachment?.ifName) {
      return { kind: 'done', detail: `the pod was captured with its interface ${attachment?.ifName}` };
    }
    if (present?.state === 'enrolled' && (await this.#alreadyServes(present.captured, order))) {
      return { kind: 'done', detail: 'the pod was captured already' };
    }
    if (present !== undefined) await this.#release(key, present);
    await this.#capture(key, order);
    return { kind: 'done', detail: 'the traffic of the pod is captured' };
  }

  async #capture(key: string, order: CaptureOrder): Promise<void> {
    if (this.#entries.size >= MAX_PODS) throw new AmbitError('NETNS', `this agent holds ${MAX_PODS} pods already`);
    this.#entries.set(key, { state: 'enrolling', pod: order.pod });
    try {
      this.#become(key, enrolledEntry(await capturePod(this.#tools, order)));
    } catch (thrown) {
      this.#entries.delete(key);
      throw thrown;
    }
    log.info({ pod: key, ips: order.pod.ips }, 'the traffic of a pod is captured');
  }

  /** A pod is in (again): it is told, and has to prove it. */
  #become(key: string, entry: PodEntry): void {
    this.#entries.set(key, entry);
    this.#observer.podChanged(entry.pod, {
      kind: 'enrolled',
      selfTest: this.#selfTests === undefined ? '' : 'running',
    });
    if (entry.state === 'enrolled') this.#selfTests?.start(entry.pod, entry.captured.netns);
  }

  /** A runtime that lost the first answer repeats the call: the same sandbox needs no second enrolment. */
  async #alreadyServes(captured: CapturedPod, order: CaptureOrder): Promise<boolean> {
    const { stored } = captured;
    const same =
      stored.pod.uid === order.pod.uid &&
      stored.netns.path === order.netns.path &&
      JSON.stringify(stored.attachment) === JSON.stringify(order.attachment) &&
      JSON.stringify([stored.pod, stored.overrides]) === JSON.stringify([order.pod, order.overrides]);
    return same && (await inspectPod(this.#tools, captured)).length === 0;
  }

  async #inspect(key: string, request: PodRequest): Promise<AgentAnswer> {
    const entry = this.#entries.get(key);
    if (entry?.state === 'broken') throw entry.error;
    if (entry?.state !== 'enrolled') throw new AmbitError('RULES', 'the pod should be captured and is not');
    const problems = await inspectPod(this.#tools, entry.captured);
    if (!pathStillLeadsTo(request.netns, entry.stored.netns)) {
      problems.push(`${request.netns} is not the namespace the pod was enrolled with`);
    }
    if (problems.length > 0) throw new AmbitError('RULES', problems.join('; '));
    return { kind: 'done', detail: 'rules, routing and listeners are as they should be' };
  }

  /** Nothing is done when the key meanwhile holds a newer sandbox of the same pod: late DELs are common. */
  async #releaseAttachment(key: string, attachment: Attachment): Promise<AgentAnswer> {
    const entry = this.#entries.get(key);
    const held = storedOf(entry)?.attachment;
    if (entry === undefined || held === undefined || attachmentKey(held) !== attachmentKey(attachment)) {
      return { kind: 'ignored', detail: 'nothing is held for this attachment' };
    }
    await this.#release(key, entry);
    return { kind: 'done', detail: 'the pod was let go' };
  }

  async #release(key: string, entry: PodEntry): Promise<void> {
    this.#leaving.forget(key);
    this.#selfTests?.forget(entry.pod.uid);
    try {
      if (entry.state === 'broken') await dropPod(this.#tools, entry.stored);
      if (entry.state === 'enrolled' || entry.state === 'leaving') {
        this.#entries.set(key, { ...entry, state: 'releasing' });
        await releasePod(this.#tools, entry.captured);
      }
    } catch (thrown) {
      log.warn({ pod: key, reason: toAmbitError(thrown, 'RULES').message }, 'a pod was let go, but not cleanly');
    } finally {
      this.#entries.delete(key);
    }
    log.info({ pod: key }, 'a pod was let go');
    this.#observer.podChanged(entry.pod, { kind: 'gone' });
  }

  async #finishLeaving(key: string): Promise<void> {
    await this.#queue.run(key, async () => {
      const entry = this.#entries.get(key);
      if (entry?.state === 'leaving') await this.#release(key, entry);
    });
  }

  async #restoreOne(stored: StoredPod): Promise<Restored> {
    const key = keyOf(stored.pod);
    if (!pathStillLeadsTo(stored.netns.path, stored.netns)) {
      await this.#tools.store.remove(stored.pod.uid);
      return 'dropped';
    }
    try {
      if (stored.leaving) {
        const captured = await resumeLeaving(this.#tools, stored);
        if (captured === undefined) return 'dropped';
        this.#entries.set(key, enrolledEntry(captured, 'leaving'));
        this.#leaving.watch(key, stored.pod.uid, captured.netns);
        return 'restored';
      }
      this.#become(key, enrolledEntry(await recapturePod(this.#tools, stored)));
      return 'restored';
    } catch (thrown) {
      const error = toAmbitError(thrown, 'NETNS');
      const { code, message: detail } = error;
      this.#entries.set(key, { state: 'broken', pod: stored.pod, stored, error });
      log.error({ pod: key, code, reason: detail }, 'a pod of the former run could not be taken up');
      this.#observer.podChanged(stored.pod, { kind: 'pending', code, detail });
      return 'broken';
    }
  }

  async #retryBroken(key: string): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry?.state === 'broken') await this.#restoreOne(entry.stored);
  }

  #findKey(attachment: Attachment): string | undefined {
    for (const [key, entry] of this.#entries) {
      const held = storedOf(entry)?.attachment;
      if (held !== undefined && attachmentKey(held) === attachmentKey(attachment)) return key;
    }
    return undefined;
  }
}

function attachmentKey({ containerId, ifName }: Attachment): string {
  return `${containerId} ${ifName}`;
}
