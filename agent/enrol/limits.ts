/** Bounds of enrolment and what happens there; `docs/LIMITS.md` is generated from the rows. */

/** Most pods one agent holds; Kubernetes recommends at most 110 per node. */
export const MAX_PODS = 1024;
/** Calls that may wait for one pod; kubelet sends one at a time. */
export const MAX_WAITING_PER_POD = 8;
/** Sandboxes remembered of pods in and out of the mesh. */
export const MAX_SANDBOXES = 1024;
/** Far more than pods have. */
export const MAX_PROBE_PORTS = 128;
/** Processes and mounts looked at for one pod; a node has a few thousand. */
export const MAX_CANDIDATES = 65_536;

export const ENROL_LIMITS_TABLE = [
  {
    name: 'MAX_PODS',
    value: `${MAX_PODS} pods`,
    meaning: 'pods one agent holds',
    atTheLimit: 'NETNS: the CNI call is refused, a running pod stays outside and says so',
  },
  {
    name: 'MAX_WAITING_PER_POD',
    value: `${MAX_WAITING_PER_POD} calls`,
    meaning: 'work that waits for one pod',
    atTheLimit: 'refused; the runtime repeats its call, label changes are tried again',
  },
  {
    name: 'MAX_SANDBOXES',
    value: `${MAX_SANDBOXES} sandboxes`,
    meaning: 'sandboxes remembered for pods that are labelled later',
    atTheLimit: 'the oldest is forgotten; its pod is then found by its address',
  },
  {
    name: 'MAX_PROBE_PORTS',
    value: `${MAX_PROBE_PORTS} ports`,
    meaning: 'ports of one pod on which probes of kubelet pass the mesh',
    atTheLimit: 'probes of further ports are judged like all traffic',
  },
  {
    name: 'MAX_CANDIDATES',
    value: `${MAX_CANDIDATES} paths`,
    meaning: 'mounts, and processes, looked at to find the namespace of a running pod',
    atTheLimit: 'further ones are not looked at; the pod may stay outside and says so',
  },
] as const;
