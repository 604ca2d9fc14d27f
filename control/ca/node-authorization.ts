/**
 * For whom a caller may have a certificate. Pure.
 *
 * A workload gets its own identity. An agent gets, besides its own, the identities of pods that can run on its node, so
 * that a stolen node yields the identities of that node and nothing else.
 */
import { AmbitError } from '../../core/errors.ts';
import { formatSpiffeId, parseSpiffeId, type SpiffeId } from '../../core/spiffe.ts';
import type { Caller } from '../authentication.ts';

export interface NodeAuthorizationRules {
  readonly trustDomain: string;
  /** Accounts of agents, `<namespace>/<service account>`. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  /** True when a pod of this account is on the node and can still run. */
  readonly nodeRuns: (node: string, namespace: string, serviceAccount: string) => boolean;
}

/** `requested`: the identity asked for, undefined for the caller's own. Throws FORBIDDEN or TRUST_DOMAIN, the reason for the log. */
export function authorizeIdentity(
  caller: Caller,
  requested: string | undefined,
  rules: NodeAuthorizationRules,
): SpiffeId {
  const { namespace, serviceAccount, node } = caller;
  const own = formatSpiffeId({ trustDomain: rules.trustDomain, namespace, serviceAccount });
  if (requested === undefined || requested === own) return own;
  if (!rules.trustedNodeAccounts.has(`${namespace}/${serviceAccount}`)) {
    throw new AmbitError('FORBIDDEN', `${namespace}/${serviceAccount} is not an account of agents`);
  }
  if (node === undefined) throw new AmbitError('FORBIDDEN', 'the token of the agent names no node');
  const parts = parseSpiffeId(requested);
  if (parts?.trustDomain !== rules.trustDomain) {
    throw new AmbitError('TRUST_DOMAIN', 'the requested identity is not one of this trust domain');
  }
  if (!rules.nodeRuns(node, parts.namespace, parts.serviceAccount)) {
    throw new AmbitError('FORBIDDEN', `no pod of ${parts.namespace}/${parts.serviceAccount} is on node ${node}`);
  }
  return formatSpiffeId(parts);
}
