/** What an operator can do about a connection that is refused or denied. Pure. */
import type { AmbitError } from '../../core/errors.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { Verdict } from '../route/authorize.ts';
import type { PolicyFinding } from '../route/explain.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';

export type Trouble =
  | { readonly kind: 'refused'; readonly error: AmbitError; readonly service: Service | undefined }
  | {
      readonly kind: 'denied';
      readonly verdict: Extract<Verdict, { kind: 'deny' }>;
      readonly findings: readonly PolicyFinding[];
      readonly source: Workload;
      readonly destination: Workload;
      /** What the source proves; undefined for plaintext. */
      readonly identity: SpiffeId | undefined;
    };

/** Sentences, the most direct remedy first. */
export function suggest(trouble: Trouble): string[] {
  if (trouble.kind === 'refused') {
    const { error, service } = trouble;
    const ports = service?.ports.map(({ servicePort }) => servicePort).join(', ');
    if (error.code === 'UNKNOWN_SERVICE' && ports) return [`${service?.key} serves port ${ports}`];
    return [error.row.hint];
  }
  const { verdict, findings, source, identity, destination } = trouble;
  if (verdict.error.code === 'POLICY_UNKNOWN') {
    return [
      `${destination.name} refers to ${verdict.policy}, which the control plane has not sent: check that it exists`,
    ];
  }
  const advice: string[] = [];
  const enrol = `kubectl label namespace ${source.namespace} istio.io/dataplane-mode=ambient`;
  if (identity === undefined) advice.push(`the client proves no identity; bring it into the mesh: ${enrol}`);
  if (verdict.policy !== undefined) {
    advice.push(`change the DENY policy ${verdict.policy} so that it does not match this client`);
    return advice;
  }
  const allows = findings.filter(({ action, dryRun }) => action === 'ALLOW' && !dryRun).map(({ policy }) => policy);
  const who = identity === undefined ? 'its identity' : identity.slice('spiffe://'.length);
  advice.push(`add ${who} to the ALLOW policy ${allows.join(' or ')}`);
  return advice;
}
