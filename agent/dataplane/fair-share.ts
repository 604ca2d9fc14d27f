/**
 * Who may have another connection when descriptors run short. Pure.
 *
 * While little is in use everybody is served: an idle neighbour's part is not kept for it. Beyond that only pods below
 * their fair share get more, so that one pod's flood cannot take what its neighbours need. A pod alone on its node has
 * nobody to leave anything to: the kernel's own limit is its limit.
 */

/** Accepted and dialled. */
export const DESCRIPTORS_PER_CONNECTION = 2;
/** Part of the limit that is given to whoever comes first. */
export const FREE_FOR_ALL = 0.75;

export interface DescriptorUse {
  /** Descriptors this worker may use. */
  readonly limit: number;
  /** Captured pods. */
  readonly pods: number;
  /** Connections of all pods now. */
  readonly connections: number;
  /** Of these, connections of the pod that asks. */
  readonly ofPod: number;
}

/** True when the pod may have one more connection. */
export function mayConnect({ limit, pods, connections, ofPod }: DescriptorUse): boolean {
  if (pods <= 1) return true;
  if (connections * DESCRIPTORS_PER_CONNECTION < limit * FREE_FOR_ALL) return true;
  return ofPod * DESCRIPTORS_PER_CONNECTION < limit / pods;
}

/** The soft limit of open files in the text of /proc/pid/limits (proc(5)); undefined when there is none. */
export function parseDescriptorLimit(limits: string): number | undefined {
  const soft = /^Max open files\s+([0-9]+)\s/m.exec(limits)?.[1];
  return soft === undefined ? undefined : Number(soft);
}
