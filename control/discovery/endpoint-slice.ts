/**
 * Endpoints of EndpointSlices that are no pods -> istio.workload.Workload: addresses somebody wrote down for a Service
 * without selector. Nothing is known of them but the address, which others may share: no identity, no policy, no
 * waypoint, and they are never looked up by address. Pure.
 */
import { create } from '@bufbuild/protobuf';
import {
  NetworkMode,
  type Workload,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes } from '../../core/ip.ts';
import type { Endpoint, EndpointSlice } from '../objects/endpoint-slice.ts';
import type { MeshSettings } from '../settings.ts';
import { type EndpointPort, type EndpointService, memberships } from './membership.ts';
import { endpointSliceUid } from './uid.ts';
import { trustDomainField } from './workload-fields.ts';

/** @param service the Service the slice belongs to; undefined: it has no endpoints to announce */
export function buildSliceEndpoints(
  slice: EndpointSlice,
  service: EndpointService | undefined,
  settings: MeshSettings,
): Workload[] {
  if (service === undefined) return [];
  const { namespace, name } = slice.meta;
  const services = memberships([servicePorts(slice, service)], () => undefined);
  const built = new Map<string, Workload>();
  for (const endpoint of slice.endpoints) {
    // All addresses of an endpoint are the same endpoint; only the first one may be relied upon.
    const ip = podOf(endpoint) === undefined ? endpoint.addresses[0] : undefined;
    if (ip === undefined) continue;
    const uid = endpointSliceUid(settings.clusterId, namespace, name, ip);
    if (built.has(uid)) continue;
    const workload = create(WorkloadSchema, {
      uid,
      name,
      namespace,
      addresses: [ipToBytes(ip)],
      network: settings.network,
      trustDomain: trustDomainField(settings),
      workloadType: WorkloadType.POD,
      services,
      status: endpoint.ready ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
      clusterId: settings.clusterId,
      networkMode: NetworkMode.HOST_NETWORK,
    });
    built.set(uid, workload);
  }
  return [...built.values()];
}

/** Name of the pod behind an endpoint; its namespace is that of the slice. */
export function podOf(endpoint: Endpoint): string | undefined {
  return endpoint.target?.kind === 'Pod' ? endpoint.target.name : undefined;
}

/** The service with the ports that the slice states for it: found by name, as for every consumer of slices. */
export function servicePorts(slice: EndpointSlice, service: EndpointService): EndpointService {
  const ports: EndpointPort[] = [];
  for (const port of service.ports) {
    const stated = slice.ports.find((candidate) => candidate.name === port.name && candidate.protocol === 'TCP');
    if (stated?.port !== undefined) ports.push({ name: port.name, port: port.port, target: stated.port });
  }
  return { key: service.key, ports, named: 'targets' };
}
