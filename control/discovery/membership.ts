/**
 * Which services a workload is an endpoint of, and on which of its ports. Pure.
 *
 * Only TCP can be tunnelled: other ports are not announced. A port whose target the workload does not have is left out:
 * the workload does not serve it.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PortListSchema, PortSchema } from '../../api/gen/istio/workload/workload_pb.js';

/** A service as its endpoints see it. */
export interface EndpointService {
  /** Name of the service's resource: `<namespace>/<hostname>`. */
  readonly key: string;
  readonly ports: readonly EndpointPort[];
  /** What names mean: those of container ports, or those of the ports themselves. */
  readonly named: 'targets' | 'ports';
}

export interface EndpointPort {
  readonly name: string;
  readonly port: number;
  /** A number, or the name of a port that each workload resolves for itself. */
  readonly target: number | string;
}

/** A workload's own ports by name. */
export type NamedPorts = (name: string) => number | undefined;

type PortInit = MessageInitShape<typeof PortSchema>;
export type Memberships = Record<string, MessageInitShape<typeof PortListSchema>>;

/** In ascending order of the services, so that equal workloads have equal bytes; the first of equal keys counts. */
export function memberships(services: readonly EndpointService[], resolve: NamedPorts): Memberships {
  const sorted =
    services.length > 1 ? [...services].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)) : services;
  const result: Memberships = {};
  for (const service of sorted) result[service.key] ??= { ports: portsOf(service, resolve) };
  return result;
}

function portsOf(service: EndpointService, resolve: NamedPorts): PortInit[] {
  const ports: PortInit[] = [];
  for (const { name, port, target } of service.ports) {
    const targetPort =
      typeof target === 'string'
        ? resolve(target)
        : ((service.named === 'ports' ? resolve(name) : undefined) ?? target);
    if (targetPort !== undefined) ports.push({ servicePort: port, targetPort });
  }
  return ports;
}
