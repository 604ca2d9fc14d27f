/** Names of a workload for telemetry: the owner it belongs to, and Istio's canonical service name and revision. Pure. */
import type { Pod } from '../objects/pod.ts';

/** The Deployment, CronJob or other controller behind the pod; the pod's own name where there is none. */
export function workloadName(pod: Pod): string {
  const { labels, owner, name } = pod.meta;
  const stated = labels.get('service.istio.io/workload-name');
  if (stated !== undefined && stated !== '') return stated;
  if (owner === undefined) return name;
  if (owner.kind === 'ReplicaSet') {
    const hash = labels.get('pod-template-hash');
    if (hash !== undefined && hash !== '' && owner.name.endsWith(`-${hash}`))
      return owner.name.slice(0, -hash.length - 1);
  }
  // A CronJob appends the scheduled time in minutes to the names of its Jobs.
  if (owner.kind === 'Job') return owner.name.replace(/-[0-9]{8,10}$/, '');
  return owner.name;
}

export function canonicalName(pod: Pod): string {
  const { labels } = pod.meta;
  return (
    labels.get('service.istio.io/canonical-name') ||
    labels.get('app.kubernetes.io/name') ||
    labels.get('app') ||
    workloadName(pod)
  );
}

export function canonicalRevision(pod: Pod): string {
  const { labels } = pod.meta;
  return (
    labels.get('service.istio.io/canonical-revision') ||
    labels.get('app.kubernetes.io/version') ||
    labels.get('version') ||
    'latest'
  );
}
