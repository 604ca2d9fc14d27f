/**
 * The label tuple of Istio's TCP traffic metrics. Values come from the registry, from verified identities or from closed
 * sets; a peer's `baggage` is the last resort and has been reduced to names before.
 */
import type { ResponseFlag } from '../../core/errors.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';
import type { Baggage } from './baggage.ts';

/** Names in the order of every tuple. The four locality labels are empty text when neither side has a locality. */
export const TRAFFIC_LABELS = [
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_cluster',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
  'source_region',
  'source_zone',
  'destination_region',
  'destination_zone',
] as const;

export const RESPONSE_FLAGS_INDEX = TRAFFIC_LABELS.indexOf('response_flags');

export type Reporter = 'source' | 'destination';
/** `mutual_tls` only when the bytes crossed the wire inside a mutually authenticated tunnel. */
export type SecurityPolicy = 'mutual_tls' | 'unknown';

/** What is known of one end. */
export interface TrafficEnd {
  readonly workload: Workload | undefined;
  /** Only used where `workload` is undefined. */
  readonly baggage?: Baggage | undefined;
  /** Proven, or known because the pod is ours. */
  readonly identity: SpiffeId | undefined;
}

const UNKNOWN = 'unknown';

export function trafficLabels(
  reporter: Reporter,
  source: TrafficEnd,
  destination: TrafficEnd,
  service: Service | undefined,
  security: SecurityPolicy,
): string[] {
  const labels: string[] = [reporter];
  pushEnd(labels, source);
  labels.push(service?.hostname || UNKNOWN, service?.namespace || UNKNOWN, service?.name || UNKNOWN);
  pushEnd(labels, destination);
  const flags: ResponseFlag = '-';
  labels.push('tcp', flags, security);
  const localities = [...localityOf(source), ...localityOf(destination)];
  const known = localities.some((value) => value !== '');
  for (const value of localities) labels.push(known ? value || UNKNOWN : '');
  return labels;
}

function pushEnd(labels: string[], end: TrafficEnd): void {
  const { workload, baggage } = end;
  const name = workload?.workloadName ?? baggage?.workloadName;
  const service = workload?.canonicalName ?? baggage?.service;
  const revision = workload?.canonicalRevision ?? baggage?.revision;
  labels.push(
    name || UNKNOWN,
    service || UNKNOWN,
    revision || UNKNOWN,
    (workload?.namespace ?? baggage?.namespace) || UNKNOWN,
    end.identity ?? UNKNOWN,
    service || UNKNOWN,
    revision || UNKNOWN,
    (workload?.clusterId ?? baggage?.cluster) || UNKNOWN,
  );
}

function localityOf({ workload, baggage }: TrafficEnd): [region: string, zone: string] {
  if (workload !== undefined) return [workload.locality.region, workload.locality.zone];
  return [baggage?.region ?? '', baggage?.zone ?? ''];
}
