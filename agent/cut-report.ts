/**
 * What became of connections that an agent could not let end in their own time: which pods they belonged to, told in the log
 * and as Events on those pods and on the node, because who runs a pod does not read the log of an agent.
 */
import { logger } from '../core/log.ts';
import type { EventNote } from '../kube/events.ts';
import type { CutByPod } from './dataplane/drain.ts';
import type { EnrolledPod } from './dataplane/pod-capture.ts';

const log = logger('agent');

export const CUT_EVENT = 'AmbitConnectionsCut';
/** Events of one agent about pods; the log names the further ones. */
const MAX_PODS_TOLD = 50;

export interface CutPod {
  readonly pod: EnrolledPod;
  readonly connections: number;
}

/** Most connections first; pods that are gone are left out. `cuts`: by uid. */
export function cutsByPod(cuts: CutByPod, pods: readonly EnrolledPod[]): CutPod[] {
  return pods
    .flatMap((pod) => {
      const connections = cuts.get(pod.uid);
      return connections === undefined ? [] : [{ pod, connections }];
    })
    .sort((a, b) => b.connections - a.connections);
}

/** How an agent ended. */
export interface CutReport {
  /** Idle connections that were ended in order: who uses one again connects to the next agent. */
  readonly ended: number;
  /** Connections that were busy until the time was over. */
  readonly cut: number;
  readonly graceMs: number;
  readonly pods: readonly CutPod[];
}

export function logCuts({ ended, cut, graceMs, pods }: CutReport): void {
  if (cut === 0) {
    log.info({ ended, cut }, 'connections have ended');
    return;
  }
  const byPod = Object.fromEntries(
    pods.slice(0, MAX_PODS_TOLD).map(({ pod, connections }) => [`${pod.namespace}/${pod.name}`, connections]),
  );
  log.warn({ ended, cut, graceMs, byPod }, 'connections outlived the grace period and were cut');
}

/** For the API server: one about the node, one for each pod that lost something. */
export function cutEvents(node: string, { ended, cut, graceMs, pods }: CutReport): EventNote[] {
  if (ended + cut === 0) return [];
  const limit = `within the ${graceMs / 1000} s that the agent had to stop`;
  return [
    {
      regarding: { apiVersion: 'v1', kind: 'Node', namespace: '', name: node },
      type: cut === 0 ? 'Normal' : 'Warning',
      reason: CUT_EVENT,
      action: 'Stop',
      note: `${ended + cut} connections did not end by themselves ${limit}: ${ended} were idle and ended in order, ${cut} were cut`,
    },
    ...pods.slice(0, MAX_PODS_TOLD).map(
      ({ pod: { uid, namespace, name }, connections }): EventNote => ({
        regarding: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
        type: 'Warning',
        reason: CUT_EVENT,
        action: 'Stop',
        note: `${connections} connections did not end ${limit} and were cut; its terminationGracePeriodSeconds can be raised`,
      }),
    ),
  ];
}
