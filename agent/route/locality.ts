/** How near an endpoint is to a client, in the order of a service's routing preference. */
import type { LocalityScope } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';

/** The number of leading scopes in which both agree; counting stops at the first in which they differ. */
export function localityRank(scopes: readonly LocalityScope[], client: Workload, endpoint: Workload): number {
  let rank = 0;
  while (rank < scopes.length) {
    const scope = scopes[rank];
    if (scope === undefined || scopeValue(scope, client) !== scopeValue(scope, endpoint)) break;
    rank++;
  }
  return rank;
}

function scopeValue(scope: LocalityScope, workload: Workload): string {
  switch (scope) {
    case 'REGION':
      return workload.locality.region;
    case 'ZONE':
      return workload.locality.zone;
    case 'SUBZONE':
      return workload.locality.subzone;
    case 'NODE':
      return workload.node;
    case 'CLUSTER':
      return workload.clusterId;
    case 'NETWORK':
      return workload.network;
  }
}
