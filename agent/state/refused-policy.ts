/**
 * What stands in for a policy that was refused and of which no earlier version is in force: a DENY of everything it was
 * for. Nobody can say what it would have allowed or denied, so nobody gets in until the control plane sends one that can
 * be read, or takes it back. A policy for selected workloads needs none: they name it, and a named policy that is not there
 * refuses already. A dry run never had force.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Action, AuthorizationSchema, Scope } from '../../api/gen/istio/security/authorization_pb.js';
import { logger } from '../../core/log.ts';
import type { EncodedResource } from './resource.ts';

/** Held instead of the control plane's version, so that a new stream asks for the policy again. */
const NO_VERSION = '';

const log = logger('policy');

/** At most one resource, with the name of the refused one; none where none is needed or the name is no policy's. */
export function denialInPlaceOf({ name, bytes }: EncodedResource): EncodedResource[] {
  const [namespace = '', policyName = '', ...more] = name.split('/');
  if (namespace === '' || policyName === '' || more.length > 0) return [];
  const scope = scopeOf(bytes);
  if (scope === undefined) return [];
  log.error(
    { policy: name, scope: Scope[scope] },
    'a policy cannot be read; everything it is for is refused until it can',
  );
  const denial = create(AuthorizationSchema, { namespace, name: policyName, scope, action: Action.DENY, groups: [{}] });
  return [{ name, version: NO_VERSION, bytes: toBinary(AuthorizationSchema, denial) }];
}

/** Undefined: it cannot be for anybody who does not name it. What does not decode counts for its namespace. */
function scopeOf(bytes: Uint8Array): Scope | undefined {
  try {
    const { scope, dryRun } = fromBinary(AuthorizationSchema, bytes);
    if (dryRun || scope === Scope.WORKLOAD_SELECTOR) return undefined;
    return scope === Scope.GLOBAL ? Scope.GLOBAL : Scope.NAMESPACE;
  } catch {
    return Scope.NAMESPACE;
  }
}
