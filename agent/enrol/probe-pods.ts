/**
 * The self-test of every enrolled pod at one moment, for whoever asks whether redirection works now. A few at a time and
 * within a bound; what was not reached by then is left out.
 */
import { toAmbitError } from '../../core/errors.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import type { PodView } from './pod-entry.ts';
import { testRedirection } from './self-tests.ts';

const AT_ONCE = 16;

/** By UID: `passed` or what happened. Never rejects. */
export async function probePods(pods: readonly PodView[], withinMs: number): Promise<ReadonlyMap<string, string>> {
  const outcomes = new Map<string, string>();
  const waiting = pods.filter(({ state, netnsPath }) => state === 'enrolled' && netnsPath !== undefined);
  const endMs = performance.now() + withinMs;
  const next = async (): Promise<void> => {
    for (let pod = waiting.shift(); pod !== undefined && performance.now() < endMs; pod = waiting.shift()) {
      outcomes.set(pod.pod.uid, await probe(pod));
    }
  };
  const { promise: overdue, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, withinMs);
  await Promise.race([Promise.all(Array.from({ length: AT_ONCE }, next)), overdue]);
  clearTimeout(timer);
  return new Map(outcomes);
}

async function probe({ netnsPath = '' }: PodView): Promise<string> {
  try {
    const netns = NetworkNamespace.openPath(netnsPath);
    try {
      return (await testRedirection(netns)) ?? 'passed';
    } finally {
      netns.close();
    }
  } catch (thrown) {
    return toAmbitError(thrown, 'NETNS').message;
  }
}
