/**
 * ServiceEntry -> one istio.workload.Service per host, and the workloads that the entry itself lists. Pure.
 *
 * Addresses are those the entry states (blocks too), else those that were given to it automatically and stand in its
 * status. An entry that is not resolved keeps every connection's own destination.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  IPFamilies,
  type NetworkAddressSchema,
  type Service as ServiceResource,
  ServiceSchema,
  ServiceVisibility,
  type Workload,
} from '../../api/gen/istio/workload/workload_pb.js';
import { type CidrBlock, type IpAddress, ipFromBytes, ipToBytes } from '../../core/ip.ts';
import type { Namespace } from '../objects/cluster.ts';
import type { ServicePort } from '../objects/service.ts';
import type { ServiceEntry, ServiceEntryPort } from '../objects/service-entry.ts';
import type { WorkloadEntrySpec } from '../objects/workload-entry.ts';
import type { MeshSettings } from '../settings.ts';
import type { AddressClaimant } from './allocate-addresses.ts';
import type { ObjectCondition } from './condition.ts';
import { loadBalancing, passthrough } from './load-balancing.ts';
import type { EndpointService } from './membership.ts';
import { announcedPort } from './service.ts';
import type { EntryVisibility } from './service-visibility.ts';
import { serviceEntryUid } from './uid.ts';
import { ingressUsesWaypoint, type WaypointBinding, waypointAddress, weightedWaypoints } from './waypoint-binding.ts';
import { buildEndpoint, type EndpointSurroundings } from './workload-entry.ts';

const AUTO_ALLOCATE_LABEL = 'networking.istio.io/enable-autoallocate-ip';
const CONNECT_STRATEGY = 'istio.io/connect-strategy';

export interface ServiceEntryFacts {
  readonly namespace: Namespace | undefined;
  readonly binding: WaypointBinding;
  readonly visibility: EntryVisibility;
  /** This entry answers for the host when the client's own namespace has none. */
  readonly canonical: boolean;
}

/** The service of one host of the entry. */
export function buildServiceEntryHost(
  entry: ServiceEntry,
  host: string,
  facts: ServiceEntryFacts,
  settings: MeshSettings,
): ServiceResource {
  const { meta } = entry;
  const { binding } = facts;
  return create(ServiceSchema, {
    name: meta.name,
    namespace: meta.namespace,
    hostname: host,
    addresses: addressesOf(entry, host, settings),
    ports: tunnelledPorts(entry).map((port) => announcedPort(announceable(port))),
    subjectAltNames: [...entry.subjectAltNames],
    loadBalancing: entry.resolution === 'NONE' ? passthrough() : loadBalancing(entry, facts.namespace),
    ipFamilies: IPFamilies.AUTOMATIC,
    canonical: facts.canonical,
    visibility: facts.visibility === 'namespace' ? ServiceVisibility.NAMESPACE : ServiceVisibility.PUBLIC,
    waypoint: waypointAddress(binding),
    ingressUseWaypoint: binding.waypoint !== undefined && ingressUsesWaypoint(meta, facts.namespace),
    weightedWaypoints: weightedWaypoints(binding),
  });
}

/** What endpoints of the entry must know of one of its hosts. */
export function entryEndpointService(entry: ServiceEntry, host: string): EndpointService {
  const ports = tunnelledPorts(entry).map(({ name, port, target }) => ({ name, port, target }));
  return { key: `${entry.meta.namespace}/${host}`, ports, named: 'ports' };
}

/** @param services the hosts of the entry that are its own: those another object answers for are left out */
export function buildServiceEntryWorkloads(
  entry: ServiceEntry,
  services: readonly EndpointService[],
  around: Omit<EndpointSurroundings, 'services'>,
  settings: MeshSettings,
): Workload[] {
  const { namespace, name } = entry.meta;
  const uid = (address: string): string => serviceEntryUid(settings.clusterId, namespace, name, address);
  if (entry.endpoints.length > 0) {
    const built = new Map<string, Workload>();
    for (const endpoint of entry.endpoints) {
      const id = uid(addressText(endpoint));
      if (built.has(id)) continue;
      const workload = buildEndpoint(id, entry.meta, endpoint, { ...around, services }, settings);
      if (workload !== undefined) built.set(id, workload);
    }
    return [...built.values()];
  }
  if (!resolvesHosts(entry) || entry.selector !== undefined) return [];
  const prefix = `${namespace}/`;
  return services.flatMap((service) => {
    const host = service.key.slice(prefix.length);
    const endpoint = { ...NO_ENDPOINT, address: { kind: 'name', name: host } as const };
    return buildEndpoint(uid(host), entry.meta, endpoint, { ...around, services: [service] }, settings) ?? [];
  });
}

function addressText({ address, network }: WorkloadEntrySpec): string {
  switch (address.kind) {
    case 'ip':
      return address.ip;
    case 'name':
      return address.name;
    case 'unix':
      return address.path;
    case 'none':
      return network;
  }
}

const NO_ENDPOINT = {
  ports: new Map<string, number>(),
  labels: new Map<string, string>(),
  network: '',
  locality: undefined,
  weight: undefined,
  serviceAccount: '',
};

function resolvesHosts(entry: ServiceEntry): boolean {
  const { resolution } = entry;
  return resolution === 'DNS' || resolution === 'DNS_ROUND_ROBIN' || resolution === 'DYNAMIC_DNS';
}

/** Without a waypoint an agent can do neither: pick hosts of a wildcard, or race the addresses of a name. */
export function waypointMissing(entry: ServiceEntry, binding: WaypointBinding): ObjectCondition | undefined {
  const wildcard = entry.resolution === 'DYNAMIC_DNS' || entry.hosts.some((host) => host.startsWith('*'));
  const strategy = entry.meta.annotations.get(CONNECT_STRATEGY);
  if (!wildcard && strategy === undefined) return undefined;
  const type = 'istio.io/WaypointMissing';
  const what = wildcard ? 'hosts with a wildcard' : `${CONNECT_STRATEGY} ${strategy}`;
  if (binding.waypoint !== undefined) {
    return { type, status: 'False', reason: 'WaypointPresent', message: `A waypoint takes care of ${what}.` };
  }
  const message = `Agents cannot honour ${what}: bind a waypoint with the label istio.io/use-waypoint.`;
  return { type, status: 'True', reason: 'NoWaypoint', message };
}

/** The entry as the allocation of addresses sees it. */
export function addressClaimant(entry: ServiceEntry): AddressClaimant {
  const wants =
    entry.addresses.length === 0 &&
    entry.resolution !== 'NONE' &&
    entry.meta.labels.get(AUTO_ALLOCATE_LABEL) !== 'false';
  const hosts = entry.hosts.filter((host) => !host.startsWith('*') || entry.resolution === 'DYNAMIC_DNS');
  return {
    name: `${entry.meta.namespace}/${entry.meta.name}`,
    createdMs: entry.meta.createdMs,
    hosts: wants ? hosts : [],
    current: entry.allocated.map(({ host, ip }) => ({ host, value: ip })),
  };
}

/** Addresses that entries state themselves, which must not be given to others. */
export function statedAddresses(entry: ServiceEntry): IpAddress[] {
  return entry.addresses.flatMap((block) => (isWhole(block) ? (ipFromBytes(block.bytes) ?? []) : []));
}

function addressesOf(
  entry: ServiceEntry,
  host: string,
  settings: MeshSettings,
): MessageInitShape<typeof NetworkAddressSchema>[] {
  const { network } = settings;
  if (entry.addresses.length > 0) {
    return entry.addresses.map((block) =>
      isWhole(block)
        ? { network, address: block.bytes }
        : { network, address: block.bytes, length: block.prefixLength },
    );
  }
  const allocated = new Set(addressClaimant(entry).hosts);
  if (!allocated.has(host)) return [];
  return entry.allocated
    .filter(({ host: of }) => of === host || of === '')
    .map(({ ip }) => ({ network, address: ipToBytes(ip) }));
}

function isWhole(block: CidrBlock): boolean {
  return block.prefixLength === block.bytes.length * 8;
}

function tunnelledPorts(entry: ServiceEntry): ServiceEntryPort[] {
  return entry.ports.filter((port) => port.protocol !== 'UDP');
}

/** The protocol of a port is stated, not guessed from its name. */
function announceable(port: ServiceEntryPort): Omit<ServicePort, 'protocol'> {
  return { name: '', port: port.port, target: port.target, appProtocol: port.protocol };
}
