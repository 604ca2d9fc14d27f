/**
 * What a client at one place may be sent to for one port of a service, ready for a weighted pick: building costs one
 * pass over the endpoints, picking one random number and, with unequal weights, a binary search. Tables are kept per
 * endpoint set and thrown away when the set or the service changes.
 *
 * Endpoints on the network of the client come first, whatever the mode; only when there is none does one on another
 * network count, and then as `remoteOnly`: this version carries nothing through a network gateway.
 */
import type { EndpointSet } from '../state/endpoint-set.ts';
import type { Service } from '../state/service.ts';
import { ownTargetPort, targetPortOf, type Workload } from '../state/workload.ts';
import { firstUsableAddress } from './address-choice.ts';
import { localityRank } from './locality.ts';

/** Places of clients that one port keeps tables for; one node has few. */
const MAX_TABLES_PER_PORT = 16;
/** Ports of one service that tables are kept for. */
const MAX_PORTS = 256;

export interface PickTable {
  readonly client: Workload;
  readonly endpoints: readonly Workload[];
  /** Running sums of the weights; undefined when all weights are equal. */
  readonly sums: Float64Array | undefined;
  /** True when nothing can be picked but an endpoint on another network could. */
  readonly remoteOnly: boolean;
}

interface ServiceTables {
  readonly service: Service;
  readonly revision: number;
  readonly byPort: Map<number, PickTable[]>;
}

const tablesOf = new WeakMap<EndpointSet, ServiceTables>();

export function pickTable(service: Service, servicePort: number, client: Workload): PickTable {
  const { endpoints } = service;
  let tables = tablesOf.get(endpoints);
  if (tables === undefined || tables.service !== service || tables.revision !== endpoints.revision) {
    tables = { service, revision: endpoints.revision, byPort: new Map() };
    tablesOf.set(endpoints, tables);
  }
  let ofPort = tables.byPort.get(servicePort);
  if (ofPort === undefined) {
    if (tables.byPort.size >= MAX_PORTS) tables.byPort.clear();
    ofPort = [];
    tables.byPort.set(servicePort, ofPort);
  }
  for (let i = 0; i < ofPort.length; i++) {
    const table = ofPort[i];
    if (table !== undefined && isSamePlace(service, table.client, client)) return table;
  }
  if (ofPort.length >= MAX_TABLES_PER_PORT) ofPort.shift();
  const built = buildTable(service, servicePort, client);
  ofPort.push(built);
  return built;
}

/** One endpoint by weight, or undefined when the table is empty. @param random uniform in [0, 1) */
export function pickFrom(table: PickTable, random: () => number): Workload | undefined {
  const { endpoints, sums } = table;
  if (endpoints.length <= 1) return endpoints[0];
  if (sums === undefined) return endpoints[Math.floor(random() * endpoints.length)];
  const wanted = random() * (sums[sums.length - 1] ?? 0);
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sums[middle] ?? 0) > wanted) high = middle;
    else low = middle + 1;
  }
  return endpoints[low];
}

/** One endpoint that is not `avoided`, all alike, or undefined when there is none. @param random uniform in [0, 1) */
export function pickOther(table: PickTable, avoided: Workload, random: () => number): Workload | undefined {
  const { endpoints } = table;
  const first = Math.floor(random() * endpoints.length);
  for (let step = 0; step < endpoints.length; step++) {
    const endpoint = endpoints[(first + step) % endpoints.length];
    if (endpoint?.uid !== avoided.uid) return endpoint;
  }
  return undefined;
}

/**
 * Where the workload answers for a port of the service: its own mapping, else the service's target port, else, behind
 * an application tunnel with a port, the service port itself. 0 when it does not answer for it.
 */
export function resolveTargetPort(service: Service, workload: Workload, servicePort: number): number {
  const own = ownTargetPort(workload, service.key, servicePort);
  if (own > 0) return own;
  const common = targetPortOf(service.ports, servicePort);
  if (common > 0) return common;
  return (workload.applicationTunnel?.port ?? 0) > 0 ? servicePort : 0;
}

function isSamePlace(service: Service, a: Workload, b: Workload): boolean {
  if (a.network !== b.network) return false;
  const { scopes } = service.loadBalancing;
  return a === b || scopes.length === 0 || localityRank(scopes, a, b) === scopes.length;
}

function buildTable(service: Service, servicePort: number, client: Workload): PickTable {
  const { mode, scopes, healthPolicy } = service.loadBalancing;
  const ranked = mode === 'FAILOVER' || mode === 'STRICT';
  let needed = mode === 'STRICT' ? scopes.length : 0;
  let endpoints: Workload[] = [];
  let remote = 0;
  for (const workload of service.endpoints.members()) {
    if (!workload.healthy && healthPolicy === 'ONLY_HEALTHY') continue;
    if (workload.capacity === 0 || resolveTargetPort(service, workload, servicePort) === 0) continue;
    if (workload.network !== client.network) {
      remote++;
      continue;
    }
    if (firstUsableAddress(workload, service.ipFamilies) === undefined) continue;
    const rank = ranked ? localityRank(scopes, client, workload) : 0;
    if (rank < needed) continue;
    if (mode === 'FAILOVER' && rank > needed) {
      needed = rank;
      endpoints = [];
    }
    endpoints.push(workload);
  }
  return { client, endpoints, sums: weightSums(endpoints), remoteOnly: endpoints.length === 0 && remote > 0 };
}

function weightSums(endpoints: readonly Workload[]): Float64Array | undefined {
  const first = endpoints[0]?.capacity;
  if (endpoints.every(({ capacity }) => capacity === first)) return undefined;
  const sums = new Float64Array(endpoints.length);
  let sum = 0;
  endpoints.forEach(({ capacity }, index) => {
    sum += capacity;
    sums[index] = sum;
  });
  return sums;
}
