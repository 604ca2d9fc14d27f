/**
 * The one owner of every enrolled pod on the node. Answers the CNI plugin's calls, takes pods of a former run up again, and
 * drops pods whose namespace is gone. The steps themselves are in pod-steps.ts, the states in pod-entry.ts.
 *
 * Pods are keyed by namespace and name: one sandbox of a pod exists at a time. Work on one pod runs strictly one piece
 * after another, work on different pods side by side.
 */
import type { AgentAnswer, Attachment, DelRequest, GcRequest, PodRequest } from '../../core/enrolment/cni-wire.ts';
import type { EligibilitySettings } from '../../core/enrolment/eligibility.ts';
import { readOverrides } from '../../core/enrolment/overrides.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { PodCapture } from '../dataplane/pod-capture.ts';
import { type AdmissionOptions, admit } from './admission.ts';
import { NetnsClaims } from './netns-claims.ts';
import type { PodDirectory, PodFacts } from './pod-directory.ts';
import { enrolledEntry, type PodEntry, type PodView, storedOf, viewOf } from './pod-entry.ts';
import { findForeignListeners, ownSocketInodes, pathStillLeadsTo } from './pod-netns.ts';
import {
  type CapturedPod,
  type CaptureOrder,
  capturePod,
  dropPod,
  inspectPod,
  recapturePod,
  releasePod,
  type StepTools,
} from './pod-steps.ts';
import { PodStore } from './pod-store.ts';
import { SerialQueue } from './serial-queue.ts';
import { isSafeUid, type StoredPod } from './stored-pod.ts';

const log = logger('enrol');

/** Most pods one agent holds; Kubernetes recommends at most 110 per node. */
export const MAX_PODS = 1024;
/** Calls that may wait for one pod; kubelet sends one at a time. */
const MAX_WAITING_PER_POD = 8;
const DEFAULT_POD_WAIT_MS = 4_000;
/** Pods taken up side by side after a restart: each reads its rules with a program of its own. */
const RESTORED_AT_ONCE = 8;

export interface EnrolmentOptions {
  readonly runDirectory: string;
  readonly directory: PodDirectory;
  readonly capture: PodCapture;
  readonly eligibility: EligibilitySettings;
  /** How long a CNI call waits for an unknown pod to become known; below the plugin's own time limit. */
  readonly podWaitMs?: number;
}

export interface RestoreReport {
  readonly restored: number;
  /** Pods whose namespace is gone. */
  readonly dropped: number;
  readonly broken: number;
  readonly corruptFiles: number;
}

export class Enrolment {
  readonly #admission: AdmissionOptions;
  readonly #tools: StepTools;
  readonly #entries = new Map<string, PodEntry>();
  /** What the last sweep noticed, by pod. */
  #findings = new Map<string, string>();
  readonly #queue = new SerialQueue(MAX_WAITING_PER_POD);

  private constructor(options: EnrolmentOptions, store: PodStore) {
    this.#admission = { ...options, waitMs: options.podWaitMs ?? DEFAULT_POD_WAIT_MS };
    this.#tools = { capture: options.capture, store, claims: new NetnsClaims() };
  }

  static async open(options: EnrolmentOptions): Promise<Enrolment> {
    return new Enrolment(options, await PodStore.open(options.runDirectory));
  }

  /** Every pod that is held, in the order of arrival. */
  list(): PodView[] {
    return [...this.#entries].map(([key, entry]) => viewOf(entry, this.#findings.get(key)));
  }

  /** Enrols an eligible pod; resolves when its traffic is captured. Repeating it is fine. Rejects with an AmbitError. */
  async add(request: PodRequest): Promise<AgentAnswer> {
    const admission = await admit(request.pod, this.#admission);
    if (admission.kind === 'ineligible') return { kind: 'ignored', detail: admission.detail };
    const order = captureOrder(request, admission.pod);
    const key = keyOf(request.pod);
    return await this.#queue.run(key, () => this.#enrol(key, order));
  }

  /** Lets the pod of an attachment go. An unknown attachment is fine: nothing of ours is left then. */
  async del(request: DelRequest): Promise<AgentAnswer> {
    const key = this.#findKey(request.attachment) ?? (request.pod === undefined ? undefined : keyOf(request.pod));
    if (key === undefined) return { kind: 'ignored', detail: 'nothing is held for this attachment' };
    return await this.#queue.run(key, () => this.#releaseAttachment(key, request.attachment));
  }

  /** Proves that a pod that should be captured is captured and served. Rejects naming everything that is not. */
  async check(request: PodRequest): Promise<AgentAnswer> {
    const key = keyOf(request.pod);
    if (!this.#entries.has(key)) {
      const admission = await admit(request.pod, this.#admission);
      if (admission.kind === 'ineligible') return { kind: 'ignored', detail: admission.detail };
    }
    return await this.#queue.run(key, () => this.#inspect(key, request));
  }

  /** Lets every pod go whose attachment is not listed. */
  async gc(request: GcRequest): Promise<AgentAnswer> {
    const valid = new Set(request.validAttachments.map(attachmentKey));
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
    const results: string[] = [];
    const left = pods.values();
    const work = async (): Promise<void> => {
      for (const stored of left) {
        results.push(await this.#queue.run(keyOf(stored.pod), () => this.#restoreOne(stored)));
      }
    };
    await Promise.all(Array.from({ length: RESTORED_AT_ONCE }, work));
    const count = (wanted: string) => results.filter((result) => result === wanted).length;
    const report = {
      restored: count('restored'),
      dropped: count('dropped'),
      broken: count('broken'),
      corruptFiles: corrupt.length,
    };
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
      if (gone) await this.#queue.run(key, () => this.#releaseAttachment(key, stored.attachment));
      else if (entry.state === 'broken') await this.#queue.run(key, () => this.#retryBroken(key));
    }
    this.#noticeForeignListeners();
  }

  /** Ends ownership without touching a pod: its rules stay, so it fails closed until a new agent takes it up. */
  async close(): Promise<void> {
    await this.#queue.idle();
    for (const entry of this.#entries.values()) if (entry.state === 'enrolled') entry.captured.abandon();
    this.#entries.clear();
  }

  async #enrol(key: string, order: CaptureOrder): Promise<AgentAnswer> {
    const present = this.#entries.get(key);
    const attachment = storedOf(present)?.attachment;
    // A second interface of the same sandbox: rules and listeners cover the whole namespace already.
    if (attachment?.containerId === order.attachment.containerId && attachment.ifName !== order.attachment.ifName) {
      return { kind: 'done', detail: `the pod was captured with its interface ${attachment.ifName}` };
    }
    if (present?.state === 'enrolled' && (await this.#alreadyServes(present.captured, order))) {
      return { kind: 'done', detail: 'the pod was captured already' };
    }
    if (present !== undefined) await this.#release(key, present);
    if (this.#entries.size >= MAX_PODS) throw new AmbitError('NETNS', `this agent holds ${MAX_PODS} pods already`);
    this.#entries.set(key, { state: 'enrolling', pod: order.pod });
    try {
      this.#entries.set(key, enrolledEntry(await capturePod(this.#tools, order)));
    } catch (thrown) {
      this.#entries.delete(key);
      throw thrown;
    }
    log.info({ pod: key, ips: order.pod.ips }, 'the traffic of a pod is captured');
    return { kind: 'done', detail: 'the traffic of the pod is captured' };
  }

  /** A runtime that lost the first answer repeats the call: the same sandbox needs no second enrolment. */
  async #alreadyServes(captured: CapturedPod, order: CaptureOrder): Promise<boolean> {
    const { stored } = captured;
    const same =
      stored.pod.uid === order.pod.uid &&
      stored.netns.path === order.netnsPath &&
      attachmentKey(stored.attachment) === attachmentKey(order.attachment) &&
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
    const stored = storedOf(entry);
    if (entry === undefined || stored === undefined || attachmentKey(stored.attachment) !== attachmentKey(attachment)) {
      return { kind: 'ignored', detail: 'nothing is held for this attachment' };
    }
    await this.#release(key, entry);
    return { kind: 'done', detail: 'the pod was let go' };
  }

  async #release(key: string, entry: PodEntry): Promise<void> {
    try {
      if (entry.state === 'broken') await dropPod(this.#tools, entry.stored);
      if (entry.state === 'enrolled') {
        this.#entries.set(key, { ...entry, state: 'releasing' });
        await releasePod(this.#tools, entry.captured);
      }
    } catch (thrown) {
      log.warn({ pod: key, reason: toAmbitError(thrown, 'RULES').message }, 'a pod was let go, but not cleanly');
    } finally {
      this.#entries.delete(key);
    }
    log.info({ pod: key }, 'a pod was let go');
  }

  async #restoreOne(stored: StoredPod): Promise<'restored' | 'dropped' | 'broken'> {
    const key = keyOf(stored.pod);
    if (!pathStillLeadsTo(stored.netns.path, stored.netns)) {
      await this.#tools.store.remove(stored.pod.uid);
      return 'dropped';
    }
    try {
      this.#entries.set(key, enrolledEntry(await recapturePod(this.#tools, stored)));
      return 'restored';
    } catch (thrown) {
      const error = toAmbitError(thrown, 'NETNS');
      this.#entries.set(key, { state: 'broken', pod: stored.pod, stored, error });
      log.error({ pod: key, code: error.code, reason: error.message }, 'a pod of the former run could not be taken up');
      return 'broken';
    }
  }

  async #retryBroken(key: string): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry?.state === 'broken') await this.#restoreOne(entry.stored);
  }

  #noticeForeignListeners(): void {
    const own = ownSocketInodes();
    const findings = new Map<string, string>();
    for (const [key, entry] of this.#entries) {
      if (entry.state !== 'enrolled') continue;
      const ports = findForeignListeners(entry.captured.netns, own);
      if (ports.length === 0) continue;
      findings.set(key, `a process of the pod listens on port ${ports.join(' and ')}`);
      if (!this.#findings.has(key)) log.warn({ pod: key, ports }, 'a process of a pod listens on ports of the mesh');
    }
    this.#findings = findings;
  }

  #findKey(attachment: Attachment): string | undefined {
    for (const [key, entry] of this.#entries) {
      const stored = storedOf(entry);
      if (stored !== undefined && attachmentKey(stored.attachment) === attachmentKey(attachment)) return key;
    }
    return undefined;
  }
}

/** Throws `NETNS` when the call gives no address to recognise the namespace by. */
function captureOrder(request: PodRequest, facts: PodFacts): CaptureOrder {
  const ips = request.ips.length > 0 ? request.ips : facts.ips;
  if (ips.length === 0) throw new AmbitError('NETNS', 'the previous plugins of the chain gave the pod no address');
  const uid = request.pod.uid ?? facts.uid ?? request.attachment.containerId;
  if (!isSafeUid(uid)) throw new AmbitError('USAGE', 'the UID of the pod is not usable as a file name');
  const { overrides, problems } = readOverrides(facts.annotations);
  for (const problem of problems) log.warn({ pod: keyOf(request.pod), problem }, 'an annotation of a pod is not used');
  return {
    pod: { uid, name: facts.name, namespace: facts.namespace, serviceAccount: facts.serviceAccount, ips },
    attachment: request.attachment,
    netnsPath: request.netns,
    overrides,
  };
}

function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

function attachmentKey({ containerId, ifName }: Attachment): string {
  return `${containerId} ${ifName}`;
}
