/** What node authorization reads of a pod object. */
import { isTerminal, type Pod } from '../objects/pod.ts';
import type { PodFacts } from './node-authorization.ts';

/** A pod that is being deleted can still run, and keeps its rights until it is gone. */
export function podFacts(pod: Pod | undefined): PodFacts | undefined {
  if (pod === undefined) return undefined;
  const { meta, serviceAccount, nodeName } = pod;
  return { uid: meta.uid, serviceAccount, nodeName, terminal: isTerminal(pod) };
}
