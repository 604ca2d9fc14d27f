/**
 * Watches pods that leave the mesh until their last captured connection has ended. At least `quietMs` pass, since peers
 * hear only then that the pod is no longer to be tunnelled to; there is no longest time: a connection that stands is
 * nobody's to cut.
 */
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { NetworkNamespace } from '../../reactor/netns.ts';
import type { PodCapture } from '../dataplane/pod-capture.ts';
import { countCarried } from './pod-netns.ts';

const log = logger('enrol');

const DEFAULT_QUIET_MS = 10_000;
const LOOK_EVERY_MS = 1_000;

interface Leaving {
  readonly uid: string;
  readonly sinceMs: number;
  /** Given when a former agent still carries connections of the pod: they are counted in the namespace. */
  readonly netns: NetworkNamespace | undefined;
}

export class LeavingPods {
  readonly #capture: PodCapture;
  readonly #quietMs: number;
  readonly #finish: (key: string) => Promise<void>;
  readonly #pods = new Map<string, Leaving>();
  #timer: NodeJS.Timeout | undefined;

  /** `finish` removes what is left of the pod; it is called once, and again when it failed. */
  constructor(capture: PodCapture, quietMs = DEFAULT_QUIET_MS, finish: (key: string) => Promise<void>) {
    this.#capture = capture;
    this.#quietMs = quietMs;
    this.#finish = finish;
  }

  watch(key: string, uid: string, netns?: NetworkNamespace): void {
    this.#pods.set(key, { uid, sinceMs: performance.now(), netns });
    this.#timer ??= setInterval(() => void this.#look(), Math.min(LOOK_EVERY_MS, this.#quietMs + 1)).unref();
  }

  /** The pod is captured again, or gone. */
  forget(key: string): void {
    this.#pods.delete(key);
    if (this.#pods.size === 0) this.close();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#pods.clear();
  }

  async #look(): Promise<void> {
    for (const [key, { uid, sinceMs, netns }] of [...this.#pods]) {
      if (performance.now() - sinceMs < this.#quietMs) continue;
      try {
        const carried = netns === undefined ? await this.#capture.countConnections(uid) : countCarried(netns);
        if (carried === 0 && this.#pods.has(key)) await this.#finish(key);
      } catch (thrown) {
        log.warn({ pod: key, reason: toAmbitError(thrown, 'RULES').message }, 'a pod that leaves is looked at again');
      }
    }
  }
}
