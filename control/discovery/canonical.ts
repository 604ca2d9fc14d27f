/** Names of a workload for telemetry: the owner it belongs to, and Istio's canonical service name and revision. Pure. */
import type { NamedMeta } from './workload-fields.ts';

/** The Deployment, CronJob or other controller behind a pod; the object's own name where there is none. */
export function workloadName(meta: NamedMeta): string {
  const { labels, owner, name } = meta;
  const stated = labels.get('service.istio.io/workload-name');
  if (stated !== undefined && stated !== '') return stated;
  if (owner === undefined) return name;
  if (owner.kind === 'ReplicaSet') {
    const hash = labels.get('pod-template-hash');
    if (hash !== undefined && hash !== '' && owner.name.endsWith(`-${hash}`))
      return owner.name.slice(0, -hash.length - 1);
  }
  // OpenShift: a DeploymentConfig numbers its ReplicationControllers.
  if (owner.kind === 'ReplicationController') return labels.get('deploymentconfig') || owner.name;
  // A CronJob appends the scheduled time in minutes to the names of its Jobs.
  if (owner.kind === 'Job') return owner.name.replace(/-[0-9]{8,10}$/, '');
  return owner.name;
}

export function canonicalName(meta: NamedMeta): string {
  const { labels } = meta;
  return (
    labels.get('service.istio.io/canonical-name') ||
    labels.get('app.kubernetes.io/name') ||
    labels.get('app') ||
    workloadName(meta)
  );
}

export function canonicalRevision({ labels }: Pick<NamedMeta, 'labels'>): string {
  return (
    labels.get('service.istio.io/canonical-revision') ||
    labels.get('app.kubernetes.io/version') ||
    labels.get('version') ||
    'latest'
  );
}
