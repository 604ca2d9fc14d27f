/**
 * For whom a caller may have a certificate. Pure.
 *
 * A workload gets its own identity. An agent gets, besides its own, the identities of pods that can run on its node, so
 * that a stolen node yields the identities of that node and nothing else. Whoever comes with a certificate renews that
 * and nothing else. A caller whose token is bound to a pod has rights only while that very pod can still run.
 */
import { formatSpiffeId, parseSpiffeId, type SpiffeId } from '../../core/spiffe.ts';
import type { Caller } from '../authentication.ts';

/** What is known of a pod. */
export interface PodFacts {
  readonly uid: string;
  readonly serviceAccount: string;
  /** Empty until scheduled. */
  readonly nodeName: string;
  /** Succeeded or failed: it never runs again. */
  readonly terminal: boolean;
}

export interface NodeAuthorizationRules {
  readonly trustDomain: string;
  /** Accounts of agents, `<namespace>/<service account>`. */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  /** True when a pod of this account is on the node and can still run. */
  readonly nodeRuns: (node: string, namespace: string, serviceAccount: string) => boolean;
  readonly findPod: (namespace: string, name: string) => PodFacts | undefined;
  /** False for an account that was deleted; absent where nobody keeps accounts. */
  readonly accountExists?: (namespace: string, serviceAccount: string) => boolean;
}

export interface RefusedIdentity {
  readonly kind: 'refused';
  readonly code: 'FORBIDDEN' | 'TRUST_DOMAIN';
  /** For the log, never for the peer. */
  readonly reason: string;
  /** True when news of a pod that has not arrived yet would change the verdict. */
  readonly transient: boolean;
}

export type IdentityVerdict = { readonly kind: 'granted'; readonly identity: SpiffeId } | RefusedIdentity;

/** `requested`: the identity asked for, undefined for the caller's own. */
export function authorizeIdentity(
  caller: Caller,
  requested: string | undefined,
  rules: NodeAuthorizationRules,
): IdentityVerdict {
  const { namespace, serviceAccount } = caller;
  const account = `${namespace}/${serviceAccount}`;
  const own = formatSpiffeId({ trustDomain: rules.trustDomain, namespace, serviceAccount });
  const forItself = requested === undefined || requested === own;
  if (!forItself && caller.how === 'certificate') {
    return forbidden('a certificate proves its own identity and gives a right to no other');
  }
  // The API server vouches for accounts of tokens; of a certificate only the mesh can say that its account is gone.
  if (caller.how === 'certificate' && rules.accountExists?.(namespace, serviceAccount) === false) {
    return forbidden(`the service account ${account} does not exist any more`);
  }
  if (!forItself && !rules.trustedNodeAccounts.has(account)) return forbidden(`${account} is not an account of agents`);
  const parts = forItself ? undefined : parseSpiffeId(requested);
  if (!forItself && parts?.trustDomain !== rules.trustDomain) {
    const reason = 'the requested identity is not one of this trust domain';
    return { kind: 'refused', code: 'TRUST_DOMAIN', reason, transient: false };
  }
  const pod = caller.pod === undefined ? undefined : rules.findPod(namespace, caller.pod.name);
  const refusal = refuseCallerPod(caller, pod);
  if (refusal !== undefined) return refusal;
  if (parts === undefined) return { kind: 'granted', identity: own };
  const node = caller.node ?? pod?.nodeName ?? '';
  if (node === '') return forbidden('the token of the agent is bound to no pod on a node');
  if (!rules.nodeRuns(node, parts.namespace, parts.serviceAccount)) {
    return awaited(`no pod of ${parts.namespace}/${parts.serviceAccount} that can run is on node ${node}`);
  }
  return { kind: 'granted', identity: formatSpiffeId(parts) };
}

/** Why the pod of the caller's token gives no right. Undefined: it does, or the token is bound to none. */
function refuseCallerPod(caller: Caller, known: PodFacts | undefined): RefusedIdentity | undefined {
  const { pod, node, namespace, serviceAccount } = caller;
  if (pod === undefined) return undefined;
  const name = `pod ${namespace}/${pod.name} of the caller`;
  if (known === undefined) return awaited(`${name} does not exist`);
  if (known.uid !== pod.uid) return awaited(`${name} is another one than that of the token`);
  if (known.serviceAccount !== serviceAccount) return forbidden(`${name} has another service account`);
  if (known.terminal) return forbidden(`${name} has ended`);
  if (node === undefined || known.nodeName === node) return undefined;
  return known.nodeName === '' ? awaited(`${name} is on no node`) : forbidden(`${name} is not on node ${node}`);
}

function forbidden(reason: string): RefusedIdentity {
  return { kind: 'refused', code: 'FORBIDDEN', reason, transient: false };
}

function awaited(reason: string): RefusedIdentity {
  return { kind: 'refused', code: 'FORBIDDEN', reason, transient: true };
}
