/**
 * After a pod was captured: does a connection from inside it really arrive at the agent? One is opened per address family
 * to an address of documentation that no host has. Redirected, it stands at once; otherwise nobody answers.
 *
 * A family without a route cannot be tested and does not count. A failed test is repeated with growing pauses for as
 * long as the pod is in; the pod stays captured meanwhile.
 */
import { Backoff } from '../../core/backoff.ts';
import { getIp, type IpAddress } from '../../core/ip.ts';
import { logger } from '../../core/log.ts';
import { SELF_TEST_PORT, SELF_TEST_V4, SELF_TEST_V6 } from '../../core/ports.ts';
import { connectMarked } from '../../reactor/marked-socket.ts';
import type { NetworkNamespace } from '../../reactor/netns.ts';
import { hasRoute } from '../../reactor/route-check.ts';
import type { EnrolledPod } from '../dataplane/pod-capture.ts';
import type { EnrolmentObserver } from './observer.ts';

const log = logger('enrol');

/** A redirected connection stands within a millisecond; the rest is for a busy machine. */
const ANSWER_WITHIN_MS = 2_000;
const AGAIN = { firstMs: 1_000, maxMs: 60_000 };

export class SelfTests {
  readonly #observer: EnrolmentObserver;
  readonly #running = new Map<string, AbortController>();

  constructor(observer: EnrolmentObserver) {
    this.#observer = observer;
  }

  /** Tests in the background and reports `enrolled` with the outcome. The namespace must stay open until `forget`. */
  start(pod: EnrolledPod, netns: NetworkNamespace): void {
    this.forget(pod.uid);
    const stop = new AbortController();
    this.#running.set(pod.uid, stop);
    void this.#run(pod, netns, stop.signal);
  }

  forget(uid: string): void {
    this.#running.get(uid)?.abort();
    this.#running.delete(uid);
  }

  close(): void {
    for (const uid of [...this.#running.keys()]) this.forget(uid);
  }

  async #run(pod: EnrolledPod, netns: NetworkNamespace, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(AGAIN);
    for (;;) {
      const problem = await testRedirection(netns);
      if (signal.aborted) return;
      this.#observer.podChanged(pod, { kind: 'enrolled', selfTest: problem ?? 'passed' });
      if (problem === undefined) break;
      log.error({ pod: `${pod.namespace}/${pod.name}`, problem }, 'the redirection of a pod does not work');
      if (!(await pause(backoff.nextDelayMs(), signal))) return;
    }
    this.#running.delete(pod.uid);
  }
}

/** Undefined when every family that can be tested is redirected, otherwise what happened. */
export async function testRedirection(netns: NetworkNamespace): Promise<string | undefined> {
  const outcomes = await Promise.all([SELF_TEST_V4, SELF_TEST_V6].map((ip) => arrives(netns, getIp(ip))));
  const failed = outcomes.filter((outcome) => outcome !== 'arrived' && outcome !== 'untestable');
  return failed.length === 0 ? undefined : failed.join('; ');
}

/** Said of a connection that stood: the agent ends it so soon that its beginning may go unseen. A refusal is ECONNREFUSED. */
const ACCEPTED: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE']);

async function arrives(netns: NetworkNamespace, ip: IpAddress): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  try {
    if (!netns.run(() => hasRoute(ip))) return 'untestable';
    // Mark 0 is no mark: the connection is like one of the pod's own.
    const socket = netns.run(() => connectMarked(ip, SELF_TEST_PORT, 0));
    const timer = setTimeout(() => resolve(`a connection to ${ip} was not redirected`), ANSWER_WITHIN_MS);
    socket.once('connect', () => resolve('arrived'));
    socket.once('error', (error) => {
      const code = 'code' in error ? String(error.code) : error.message;
      resolve(ACCEPTED.has(code) ? 'arrived' : `a connection to ${ip} was not redirected (${code})`);
    });
    return await promise.finally(() => {
      clearTimeout(timer);
      socket.on('error', () => undefined).destroy();
    });
  } catch (thrown) {
    return `the namespace could not be entered: ${thrown instanceof Error ? thrown.message : String(thrown)}`;
  }
}

/** False when it was ended early. */
function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(true), ms).unref();
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    resolve(false);
  });
  return promise;
}
