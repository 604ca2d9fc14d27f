/**
 * Writes to the API server what enrolment tells about pods. Never in the way of enrolment: the newest report of a pod waits
 * in a queue, is written once however often it was told, and is tried again until it is written or the pod is gone.
 * What somebody else removes from the pod is written again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ENROLMENT_EVENT } from '../../core/enrolment/redirection.ts';
import { logger } from '../../core/log.ts';
import { isConflict, isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { EventRecorder } from '../../kube/events.ts';
import { objectPath, RESOURCES } from '../../kube/resource.ts';
import { type FailingKey, WorkQueue } from '../../kube/work-queue.ts';
import type { EnrolmentObserver, EnrolmentReport, PodName } from './observer.ts';
import type { DirectoryChange, PodDirectory } from './pod-directory.ts';
import { keyOf } from './pod-entry.ts';
import {
  eventOf,
  isCaptured,
  isWritten,
  type PodStatus,
  type StatusEvent,
  statusOf,
  statusPatch,
} from './pod-status.ts';

const log = logger('enrol');

/** Calls to the API server side by side. */
const AT_ONCE = 4;
/** A self-test usually ends within this time, and then its outcome is written at once. */
const SELF_TEST_MS = 20;
const SETTLE_STEP_MS = 10;
const LOGGED_ATTEMPTS = new Set([1, 10, 100, 1_000]);

interface Wanted {
  readonly pod: PodName;
  readonly status: PodStatus;
  readonly event: StatusEvent | undefined;
  /** The self-test runs: what was written about an earlier one stays until its outcome is known. */
  readonly provisional: boolean;
}

export class PodStatusWriter implements EnrolmentObserver {
  readonly #client: KubeClient;
  readonly #events: EventRecorder;
  readonly #directory: PodDirectory;
  readonly #wanted = new Map<string, Wanted>();
  readonly #queue: WorkQueue;
  readonly #stopListening: () => void;

  constructor(client: KubeClient, events: EventRecorder, directory: PodDirectory) {
    this.#client = client;
    this.#events = events;
    this.#directory = directory;
    this.#queue = new WorkQueue({
      run: (key) => this.#write(key),
      concurrency: AT_ONCE,
      onFailing: (key, { code, message }, attempts) => {
        if (LOGGED_ATTEMPTS.has(attempts))
          log.warn({ pod: key, attempts, code, reason: message }, 'the status of a pod could not be written yet');
      },
    });
    this.#stopListening = directory.onChange((change) => this.#onChange(change));
  }

  podChanged(pod: PodName, report: EnrolmentReport): void {
    const key = keyOf(pod);
    const provisional = report.kind === 'enrolled' && report.selfTest === 'running';
    this.#wanted.set(key, { pod, status: statusOf(report), event: eventOf(report), provisional });
    if (provisional) this.#queue.addAfter(key, SELF_TEST_MS);
    else this.#queue.add(key);
  }

  /** Pods whose status could not be written yet. */
  failing(): FailingKey<string>[] {
    return this.#queue.failing();
  }

  /** Resolves when everything told so far is written, or after `ms`: an API server may be away for long. */
  async settled(ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    while (this.#queue.length > 0 && performance.now() < deadline) await sleep(SETTLE_STEP_MS);
    const leftMs = Math.max(0, deadline - performance.now());
    await Promise.race([this.#events.flush(), sleep(leftMs, undefined, { ref: false })]);
  }

  /** Nothing is begun any more; resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#stopListening();
    await this.#queue.close();
  }

  #onChange(change: DirectoryChange): void {
    if (change.kind === 'pod') {
      if (this.#wanted.has(keyOf(change))) this.#queue.add(keyOf(change));
    } else if (change.kind === 'all') {
      for (const key of this.#wanted.keys()) this.#queue.add(key);
    }
  }

  async #write(key: string): Promise<void> {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    const { pod, status, event, provisional } = wanted;
    const facts = this.#directory.findPod(pod.namespace, pod.name);
    const uid = facts?.uid;
    if (facts === undefined || uid === undefined || (uid !== pod.uid && facts.staticUid !== pod.uid)) {
      // Gone, or replaced; or too new to be known, and then the change that makes it known leads here again.
      if (this.#directory.synced && status.redirection === undefined) this.#wanted.delete(key);
      return;
    }
    const { written } = facts;
    if (written !== undefined && (isWritten(status, written) || (provisional && isCaptured(written)))) return;
    try {
      await this.#client.request({
        method: 'PATCH',
        path: objectPath(RESOURCES.Pod, pod.namespace, pod.name, 'status'),
        contentType: 'application/strategic-merge-patch+json',
        body: statusPatch(uid, status, new Date()),
      });
      if (event !== undefined) this.#record(pod, uid, event);
    } catch (thrown) {
      // The pod is gone, or another one has its name: the directory hears of it as well.
      if (!isNotFound(thrown) && !isConflict(thrown)) throw thrown;
    }
  }

  /** What was already written is no news, also after a restart of the agent. */
  #record({ namespace, name }: PodName, uid: string, event: StatusEvent): void {
    const regarding = { apiVersion: 'v1', kind: 'Pod', namespace, name, uid };
    this.#events.record({ regarding, reason: ENROLMENT_EVENT, ...event });
  }
}
