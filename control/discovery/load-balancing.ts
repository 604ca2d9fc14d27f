/** Which endpoints of a service are preferred and which may be picked at all. Pure. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type LoadBalancingSchema,
} from '../../api/gen/istio/workload/workload_pb.js';
import type { ObjectMeta } from '../objects/metadata.ts';

const { NETWORK, REGION, ZONE, SUBZONE, NODE } = LoadBalancing_Scope;
const SAME_ZONE = [NETWORK, REGION, ZONE];
const SAME_NODE = [NETWORK, REGION, ZONE, SUBZONE, NODE];
const DISTRIBUTION = 'networking.istio.io/traffic-distribution';

export interface EndpointChoice {
  readonly meta: Pick<ObjectMeta, 'annotations'>;
  /** Absent for objects that have no such field. */
  readonly internalTrafficPolicy?: 'Cluster' | 'Local';
  readonly trafficDistribution?: string | undefined;
  readonly publishNotReadyAddresses?: boolean;
}

/** Undefined: every healthy endpoint is equal. */
export function loadBalancing(
  service: EndpointChoice,
  namespace: { readonly meta: Pick<ObjectMeta, 'annotations'> } | undefined,
): MessageInitShape<typeof LoadBalancingSchema> | undefined {
  const all = service.publishNotReadyAddresses === true;
  const healthPolicy = all ? LoadBalancing_HealthPolicy.ALLOW_ALL : LoadBalancing_HealthPolicy.ONLY_HEALTHY;
  const preference = routingPreference(service, namespace);
  if (preference !== undefined) return { ...preference, healthPolicy };
  return all ? { healthPolicy } : undefined;
}

/** Of a ServiceEntry that is not resolved: the connection keeps its destination. */
export function passthrough(): MessageInitShape<typeof LoadBalancingSchema> {
  return { mode: LoadBalancing_Mode.PASSTHROUGH, healthPolicy: LoadBalancing_HealthPolicy.ALLOW_ALL };
}

/** The field of the service wins over its annotation, that over the annotation of the namespace. */
function routingPreference(
  service: EndpointChoice,
  namespace: { readonly meta: Pick<ObjectMeta, 'annotations'> } | undefined,
): { mode: LoadBalancing_Mode; routingPreference: LoadBalancing_Scope[] } | undefined {
  if (service.internalTrafficPolicy === 'Local') {
    return { mode: LoadBalancing_Mode.STRICT, routingPreference: [NODE] };
  }
  const distribution =
    service.trafficDistribution ??
    service.meta.annotations.get(DISTRIBUTION) ??
    namespace?.meta.annotations.get(DISTRIBUTION);
  switch (distribution) {
    case 'PreferClose':
    case 'PreferSameZone':
      return { mode: LoadBalancing_Mode.FAILOVER, routingPreference: SAME_ZONE };
    case 'PreferSameNode':
      return { mode: LoadBalancing_Mode.FAILOVER, routingPreference: SAME_NODE };
    default:
      return undefined;
  }
}
