/**
 * What stands in for a policy that cannot be read and of which no good version is known: nobody can say what it would
 * have allowed, so it lets through no more than any reading of it would.
 *
 * An AuthorizationPolicy that is an ALLOW (said or by default) becomes one that allows nothing: what other ALLOW
 * policies permit stays permitted. Any other becomes a DENY of everything. A PeerAuthentication becomes STRICT. The
 * scope is that of the object; a selector that cannot be read counts as none. Nothing stands in for what has no force at
 * agents: dry runs, AUDIT, CUSTOM, policies with targetRefs. Pure and total.
 */
import { decode, isRecord } from '../../core/decoder.ts';
import type { AuthorizationPolicy } from './authorization-policy.ts';
import { metadata, type ObjectMeta, workloadSelector } from './metadata.ts';
import type { PeerAuthentication } from './peer-authentication.ts';

export type PolicyStandIn = AuthorizationPolicy | PeerAuthentication;

/**
 * @param value the object as it came; `reason` what is wrong with it, for its condition.
 * Undefined for other kinds, where nothing is needed, and where the object does not even say its namespace and name.
 */
export function standInFor(kind: string, value: unknown, reason: string): PolicyStandIn | undefined {
  if (!isRecord(value) || (kind !== 'AuthorizationPolicy' && kind !== 'PeerAuthentication')) return undefined;
  const meta = readMeta(value.metadata);
  if (meta === undefined) return undefined;
  const spec = isRecord(value.spec) ? value.spec : {};
  const selector = readSelector(spec.selector);
  if (kind === 'PeerAuthentication') {
    return { kind, meta, selector, mode: 'STRICT', ports: new Map(), standsInFor: reason };
  }
  const { action, targetRef, targetRefs } = spec;
  const dryRun = meta.annotations.get('istio.io/dry-run') === 'true';
  const attached = (targetRef !== undefined || targetRefs !== undefined) && spec.selector === undefined;
  if (dryRun || attached || action === 'AUDIT' || action === 'CUSTOM') return undefined;
  const isAllow = isRecord(value.spec) && (action === undefined || action === 'ALLOW');
  return {
    kind,
    meta,
    action: isAllow ? 'ALLOW' : 'DENY',
    selector,
    targets: [],
    rules: isAllow ? [] : [{ clauses: [] }],
    dryRun: false,
    standsInFor: reason,
  };
}

/** The metadata, or as much of it as names the object. */
function readMeta(value: unknown): ObjectMeta | undefined {
  const whole = decode(metadata('namespaced'), value);
  if (whole.ok) return whole.value;
  if (!isRecord(value)) return undefined;
  const { name, namespace = 'default' } = value;
  const named = decode(metadata('namespaced'), { name, namespace });
  return named.ok ? named.value : undefined;
}

function readSelector(value: unknown): ReadonlyMap<string, string> | undefined {
  const selector = decode(workloadSelector, value);
  return selector.ok && selector.value.size > 0 ? selector.value : undefined;
}
