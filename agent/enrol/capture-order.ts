/** From what the runtime, or the API server, says about a pod to the order to capture it. Pure but for the log. */
import type { PodRequest } from '../../core/enrolment/cni-wire.ts';
import { readOverrides } from '../../core/enrolment/overrides.ts';
import { AmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { FoundNetns } from './find-netns.ts';
import type { PodFacts } from './pod-directory.ts';
import { keyOf } from './pod-entry.ts';
import type { CaptureOrder } from './pod-steps.ts';
import { isSafeUid } from './stored-pod.ts';

const log = logger('enrol');

/** For a new sandbox. Throws `NETNS` when the call gives no address to recognise the namespace by. */
export function orderOfRequest(request: PodRequest, facts: PodFacts): CaptureOrder {
  const ips = request.ips.length > 0 ? request.ips : facts.ips;
  if (ips.length === 0) throw new AmbitError('NETNS', 'the previous plugins of the chain gave the pod no address');
  return {
    ...orderOf(facts, request.pod.uid ?? facts.uid ?? request.attachment.containerId, ips),
    attachment: request.attachment,
    netns: { path: request.netns },
    running: false,
  };
}

/** For a pod that runs. */
export function orderOfRunning(facts: PodFacts, found: FoundNetns): CaptureOrder {
  const uid = facts.staticUid ?? facts.uid;
  if (uid === undefined) throw new AmbitError('NETNS', 'the pod has no UID');
  const { attachment, ips, ...netns } = found;
  return { ...orderOf(facts, uid, ips), attachment, netns, running: true };
}

function orderOf(facts: PodFacts, uid: string, ips: PodFacts['ips']) {
  if (!isSafeUid(uid)) throw new AmbitError('USAGE', 'the UID of the pod is not usable as a file name');
  const { overrides, problems } = readOverrides(facts.annotations);
  for (const problem of problems) log.warn({ pod: keyOf(facts), problem }, 'an annotation of a pod is not used');
  const { name, namespace, serviceAccount } = facts;
  return { pod: { uid, name, namespace, serviceAccount, ips }, overrides, probePorts: facts.probePorts };
}
