/**
 * Keeps the pods of this node in the mesh exactly while their labels and those of their namespace say so: brings running
 * pods in, lets them leave, and applies changed annotations, without a restart of the pod.
 *
 * Every change of the directory only says which pod to look at; what is done follows from the newest facts
 * (enrolment-plan.ts). What fails is tried again, with growing pauses, for as long as it is wanted.
 */
import type { EligibilitySettings } from '../../core/enrolment/eligibility.ts';
import { type AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { type FailingKey, WorkQueue } from '../../kube/work-queue.ts';
import { orderOfRunning } from './capture-order.ts';
import type { Enrolment } from './enrolment.ts';
import { planEnrolment } from './enrolment-plan.ts';
import { findPodNetns, type NetnsSources } from './find-netns.ts';
import type { EnrolmentObserver, EnrolmentReport } from './observer.ts';
import type { DirectoryChange, PodDirectory, PodFacts } from './pod-directory.ts';
import { keyOf } from './pod-entry.ts';

const log = logger('enrol');

/** Pods brought in side by side: each applies its rules with a program of its own. */
const AT_ONCE = 4;
/** An agent that starts is ready after a second or so. */
const NOT_READY_PAUSE_MS = 100;
/** A failure is logged the first time and then at these attempts, so that a pod that never succeeds is not forgotten. */
const LOGGED_ATTEMPTS = new Set([1, 10, 100, 1_000]);

export interface RunningPodsOptions {
  readonly directory: PodDirectory;
  readonly enrolment: Enrolment;
  readonly eligibility: EligibilitySettings;
  readonly netns: NetnsSources;
  readonly observer: EnrolmentObserver;
  /** Undefined when new pods can be captured: until then those that run go on outside the mesh, and lose no connection. */
  readonly notReady: () => string | undefined;
}

export class RunningPods {
  readonly #options: RunningPodsOptions;
  readonly #queue: WorkQueue;
  readonly #stopListening: () => void;

  /** Looks at every pod at once, then at those that change. */
  constructor(options: RunningPodsOptions) {
    this.#options = options;
    this.#queue = new WorkQueue({
      run: (key) => this.#look(key),
      concurrency: AT_ONCE,
      onFailing: (key, error, attempts) => this.#onFailing(key, error, attempts),
    });
    this.#stopListening = options.directory.onChange((change) => this.#onChange(change));
    this.#onChange({ kind: 'all' });
  }

  /** Looks at a pod again, for what happened elsewhere than in the directory. */
  look(key: string): void {
    this.#queue.add(key);
  }

  /** Pods that should be in, or out, and are not. */
  failing(): FailingKey<string>[] {
    return this.#queue.failing();
  }

  /** Nothing is begun any more; resolves when nothing runs. */
  async close(): Promise<void> {
    this.#stopListening();
    await this.#queue.close();
  }

  #onChange(change: DirectoryChange): void {
    if (change.kind === 'pod') {
      this.#queue.add(keyOf(change));
      return;
    }
    for (const pod of this.#options.directory.pods()) {
      if (change.kind === 'all' || pod.namespace === change.name) this.#queue.add(keyOf(pod));
    }
  }

  async #look(key: string): Promise<void> {
    const { directory, enrolment, eligibility } = this.#options;
    const slash = key.indexOf('/');
    const [namespace, name] = [key.slice(0, slash), key.slice(slash + 1)];
    const pod = directory.findPod(namespace, name);
    const held = enrolment.findHeld(key);
    const step = planEnrolment({ pod, namespace: directory.findNamespace(namespace), held, eligibility });
    switch (step.kind) {
      case 'nothing':
      case 'wait':
        return;
      case 'enrol':
        return await this.#enrol(step.pod);
      case 'reapply':
        return await enrolment.reapply(key, step.overrides);
      case 'leave':
        return await enrolment.leave(key, step.detail);
      case 'release':
        log.info({ pod: key, reason: step.detail }, 'a pod is let go');
        return await enrolment.release(key);
      case 'outside':
        this.#report(
          step.pod,
          step.surprising === undefined
            ? { kind: 'gone' }
            : { kind: 'outside', reason: step.surprising, detail: step.detail },
        );
        return;
    }
  }

  async #enrol(pod: PodFacts): Promise<void> {
    if (this.#options.notReady() !== undefined) {
      this.#queue.addAfter(keyOf(pod), NOT_READY_PAUSE_MS);
      return;
    }
    try {
      const found = await findPodNetns(pod, this.#options.netns);
      await this.#options.enrolment.enrolRunning(orderOfRunning(pod, found));
    } catch (thrown) {
      const error = toAmbitError(thrown, 'NETNS');
      this.#report(pod, { kind: 'pending', code: error.code, detail: error.message });
      throw error;
    }
  }

  #report(pod: PodFacts, report: EnrolmentReport): void {
    if (pod.uid !== undefined) this.#options.observer.podChanged({ ...pod, uid: pod.uid }, report);
  }

  #onFailing(key: string, { code, message }: AmbitError, attempts: number): void {
    if (!LOGGED_ATTEMPTS.has(attempts)) return;
    log.error({ pod: key, attempts, code, reason: message }, 'a pod is not as its labels say; it is tried again');
  }
}
