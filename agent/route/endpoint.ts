/** Chooses the workload and the port that answer for a service. */
import { AmbitError } from '../../core/errors.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';
import { pickFrom, pickOther, pickTable } from './pick-table.ts';

/**
 * A random endpoint of the service that answers for `servicePort`, by weight, locality and health.
 *
 * `avoided` could not be reached a moment ago: any other one, when there is one.
 *
 * An `AmbitError` is returned, not thrown: `UNKNOWN_GATEWAY` when every endpoint is on another network,
 * `NO_HEALTHY_ENDPOINT` when there is none at all.
 */
export function selectEndpoint(
  service: Service,
  servicePort: number,
  client: Workload,
  random: () => number,
  avoided?: Workload,
): Workload | AmbitError {
  const table = pickTable(service, servicePort, client);
  const endpoint = avoided === undefined ? pickFrom(table, random) : pickOther(table, avoided, random);
  if (endpoint !== undefined) return endpoint;
  if (table.remoteOnly)
    return new AmbitError(
      'UNKNOWN_GATEWAY',
      `every endpoint of ${service.key} is on another network; network gateways are not supported`,
    );
  const known = service.endpoints.size;
  return new AmbitError(
    'NO_HEALTHY_ENDPOINT',
    known === 0
      ? `${service.key} has no endpoint`
      : `none of the ${known} endpoints of ${service.key} is ready, reachable and answers for port ${servicePort}`,
  );
}
