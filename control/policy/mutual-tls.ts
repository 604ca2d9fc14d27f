/**
 * PeerAuthentication -> effective mTLS mode -> istio.security.Authorization. Pure.
 *
 * `resolveMutualTls` is the only place where modes are inherited. Both questions that depend on it, which policies
 * exist and which a workload names, are answered from its result, so that they cannot disagree. Plaintext is refused
 * by a DENY policy for "no identity"; agents cannot refuse mTLS, so DISABLE counts as PERMISSIVE.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  Action,
  type Authorization,
  AuthorizationSchema,
  type GroupSchema,
  Scope,
  type StringMatchSchema,
} from '../../api/gen/istio/security/authorization_pb.js';
import type { MtlsMode, PeerAuthentication } from '../objects/peer-authentication.ts';
import { accepted, type PolicyCondition, refused } from './condition.ts';
import { describeScope } from './scope.ts';

/** Istio's names, so that its tools recognise the policies. */
const STATIC_STRICT_NAME = 'istio_converted_static_strict';
const CONVERTED_PREFIX = 'converted_peer_authentication_';

/** The object that counts on each level; undefined where none exists. */
export interface MutualTlsLevels {
  readonly mesh: PeerAuthentication | undefined;
  readonly namespace: PeerAuthentication | undefined;
  readonly workload: PeerAuthentication | undefined;
}

export interface MutualTls {
  readonly mode: 'STRICT' | 'PERMISSIVE';
  /** Workload ports that have the other mode, ascending. */
  readonly exceptions: readonly number[];
}

/** The mode of a workload and of its ports: the nearest level that says something wins, PERMISSIVE when none does. */
export function resolveMutualTls(levels: MutualTlsLevels): MutualTls {
  const stated = [levels.workload, levels.namespace, levels.mesh].map((level) => level?.mode ?? 'UNSET');
  const mode = effective(stated.find((candidate) => candidate !== 'UNSET') ?? 'PERMISSIVE');
  const exceptions: number[] = [];
  for (const [port, portMode] of levels.workload?.ports ?? []) {
    if (portMode !== 'UNSET' && effective(portMode) !== mode) exceptions.push(port);
  }
  return { mode, exceptions: exceptions.sort((a, b) => a - b) };
}

function effective(mode: MtlsMode): MutualTls['mode'] {
  return mode === 'STRICT' ? 'STRICT' : 'PERMISSIVE';
}

/** The one that counts among objects of a level: the oldest, by name where ages are equal. */
export function oldest(candidates: Iterable<PeerAuthentication>): PeerAuthentication | undefined {
  let best: PeerAuthentication | undefined;
  for (const candidate of candidates) if (best === undefined || isOlder(candidate, best)) best = candidate;
  return best;
}

function isOlder(a: PeerAuthentication, b: PeerAuthentication): boolean {
  if (a.meta.createdMs !== b.meta.createdMs) return a.meta.createdMs < b.meta.createdMs;
  return a.meta.name < b.meta.name;
}

/** The policy `<namespace>/<name>` a workload with these levels must name, undefined when plaintext is welcome. */
export function mutualTlsPolicyKey(levels: MutualTlsLevels, rootNamespace: string): string | undefined {
  const { mode, exceptions } = resolveMutualTls(levels);
  if (exceptions.length > 0 && levels.workload !== undefined) {
    return `${levels.workload.meta.namespace}/${CONVERTED_PREFIX}${levels.workload.meta.name}`;
  }
  return mode === 'STRICT' ? `${rootNamespace}/${STATIC_STRICT_NAME}` : undefined;
}

/** The policy that the mesh always carries: refuses every plaintext connection of the workloads that name it. */
export function staticStrictPolicy(rootNamespace: string): Authorization {
  return denial(rootNamespace, STATIC_STRICT_NAME, [{ rules: [{ matches: [{ notPrincipals: [presence()] }] }] }]);
}

/** The policy of `levels.workload`, undefined when it has no port that differs from the rest. */
export function convertPeerAuthentication(levels: MutualTlsLevels): Authorization | undefined {
  const { mode, exceptions } = resolveMutualTls(levels);
  if (levels.workload === undefined || exceptions.length === 0) return undefined;
  const { name, namespace } = levels.workload.meta;
  const groups: MessageInitShape<typeof GroupSchema>[] =
    mode === 'STRICT'
      ? [
          {
            rules: [
              { matches: [{ notPrincipals: [presence()] }] },
              ...exceptions.map((port) => ({ matches: [{ notDestinationPorts: [port] }] })),
            ],
          },
        ]
      : exceptions.map((port) => ({
          rules: [{ matches: [{ notPrincipals: [presence()], destinationPorts: [port] }] }],
        }));
  return denial(namespace, `${CONVERTED_PREFIX}${name}`, groups);
}

function presence(): MessageInitShape<typeof StringMatchSchema> {
  return { matchType: { case: 'presence', value: {} } };
}

function denial(namespace: string, name: string, groups: MessageInitShape<typeof GroupSchema>[]): Authorization {
  return create(AuthorizationSchema, {
    namespace,
    name,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups,
  });
}

/**
 * What became of a PeerAuthentication. `counting`: the object that counts where this one applies (`oldest`), for a
 * selector that of its selected workloads.
 */
export function peerAuthenticationCondition(
  peer: PeerAuthentication,
  counting: PeerAuthentication | undefined,
  rootNamespace: string,
): PolicyCondition {
  const { namespace, name } = peer.meta;
  if (peer.selector !== undefined && namespace === rootNamespace) {
    const message = 'A selector in the root namespace selects nothing; write the policy in the namespace it is for.';
    return refused('Invalid', message);
  }
  const scope = describeScope(peer, rootNamespace);
  if (peer.standsInFor !== undefined) {
    return refused('Invalid', `${peer.standsInFor}. Until it is corrected, ${scope} refuse plaintext (STRICT).`);
  }
  if (counting !== undefined && counting.meta.name !== name) {
    return refused('Invalid', `Has no effect on ${scope}: ${namespace}/${counting.meta.name} is older and counts.`);
  }
  return accepted(`In force for ${scope}.`);
}
