/** Whom a policy is for: its scope on the wire, whether it applies to a workload, and the scope in words. Pure. */
import { Scope } from '../../api/gen/istio/security/authorization_pb.js';
import { type ObjectMeta, selects } from '../objects/metadata.ts';

/** What scope depends on; AuthorizationPolicy and PeerAuthentication have it. */
export interface ScopedPolicy {
  readonly meta: Pick<ObjectMeta, 'namespace'>;
  readonly selector: ReadonlyMap<string, string> | undefined;
}

/** `rootNamespace`: a policy there without a selector is for the whole mesh. */
export function scopeOf(policy: ScopedPolicy, rootNamespace: string): Scope {
  if (policy.selector !== undefined) return Scope.WORKLOAD_SELECTOR;
  return policy.meta.namespace === rootNamespace ? Scope.GLOBAL : Scope.NAMESPACE;
}

/** True when an AuthorizationPolicy is for a workload: a selector in the root namespace selects in all of them. */
export function appliesTo(
  policy: ScopedPolicy,
  workload: { readonly namespace: string; readonly labels: ReadonlyMap<string, string> },
  rootNamespace: string,
): boolean {
  const { namespace } = policy.meta;
  if (namespace !== rootNamespace && namespace !== workload.namespace) return false;
  return policy.selector === undefined || selects(policy.selector, workload.labels);
}

/** `workloads with app=web in namespace shop`. */
export function describeScope(policy: ScopedPolicy, rootNamespace: string): string {
  const { namespace } = policy.meta;
  const where = namespace === rootNamespace ? 'the mesh' : `namespace ${namespace}`;
  if (policy.selector === undefined) return `all workloads of ${where}`;
  const labels = [...policy.selector].map(([key, value]) => `${key}=${value}`).join(', ');
  return `workloads with ${labels} in ${where}`;
}
