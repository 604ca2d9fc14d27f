/** Service: addresses, ports, selector and the fields that steer which endpoint is picked. */

import {
  boolean,
  type Decoder,
  integer,
  list,
  mapped,
  object,
  oneOf,
  optional,
  record,
  string,
  withDefault,
} from '../../core/decoder.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  /** A number, or the name of a container port that each pod resolves for itself. */
  readonly target: number | string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly appProtocol: string | undefined;
}

export interface Service {
  readonly kind: 'Service';
  readonly meta: ObjectMeta;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  /** Canonical; empty for a headless service. */
  readonly clusterIps: readonly IpAddress[];
  readonly ipFamilies: readonly ('IPv4' | 'IPv6')[];
  /** Empty: endpoints are not found by labels. */
  readonly selector: ReadonlyMap<string, string>;
  readonly ports: readonly ServicePort[];
  readonly publishNotReadyAddresses: boolean;
  readonly internalTrafficPolicy: 'Cluster' | 'Local';
  readonly trafficDistribution: string | undefined;
}

const targetPort: Decoder<number | string> = (value, path, report) => {
  if (typeof value === 'number') return integer(1, 65_535)(value, path, report);
  if (typeof value !== 'string' || !/^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/.test(value)) {
    report(path, 'must be a port number or the name of a container port');
    return undefined;
  }
  // A quoted number is how some tools write a number.
  return /^[1-9][0-9]{0,4}$/.test(value) && Number(value) <= 65_535 ? Number(value) : value;
};

const clusterIp: Decoder<IpAddress | 'None' | ''> = (value, path, report) => {
  if (value === 'None' || value === '') return value;
  const ip = typeof value === 'string' ? parseIp(value) : undefined;
  if (ip === undefined) report(path, 'must be an IP address or None');
  return ip;
};

const wireService = object(
  {
    metadata: metadata('namespaced'),
    spec: object(
      {
        type: withDefault(oneOf('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'), 'ClusterIP'),
        clusterIP: optional(clusterIp),
        clusterIPs: withDefault(list(clusterIp), []),
        ipFamilies: withDefault(list(oneOf('IPv4', 'IPv6')), []),
        selector: withDefault(record(string), new Map<string, string>()),
        ports: withDefault(
          list(
            object(
              {
                name: withDefault(string, ''),
                port: integer(1, 65_535),
                targetPort: optional(targetPort),
                protocol: withDefault(oneOf('TCP', 'UDP', 'SCTP'), 'TCP'),
                appProtocol: optional(string),
              },
              'ignore',
            ),
          ),
          [],
        ),
        publishNotReadyAddresses: withDefault(boolean, false),
        internalTrafficPolicy: withDefault(oneOf('Cluster', 'Local'), 'Cluster'),
        trafficDistribution: optional(string),
      },
      'ignore',
    ),
  },
  'ignore',
);

export const service: Decoder<Service> = mapped(wireService, ({ metadata: meta, spec }, path, report) => {
  const ips = new Set<IpAddress>();
  for (const ip of [spec.clusterIP, ...spec.clusterIPs]) {
    if (ip !== undefined && ip !== 'None' && ip !== '') ips.add(ip);
  }
  const seen = new Set<string>();
  spec.ports.forEach((port, index) => {
    const identity = `${port.protocol}/${port.port}`;
    if (seen.has(identity)) report([...path, 'spec', 'ports', index, 'port'], `${identity} is listed twice`);
    seen.add(identity);
  });
  return {
    kind: 'Service',
    meta,
    type: spec.type,
    clusterIps: [...ips],
    ipFamilies: spec.ipFamilies,
    selector: spec.selector,
    ports: spec.ports.map((port) => ({
      name: port.name,
      port: port.port,
      target: port.targetPort ?? port.port,
      protocol: port.protocol,
      appProtocol: port.appProtocol,
    })),
    publishNotReadyAddresses: spec.publishNotReadyAddresses,
    internalTrafficPolicy: spec.internalTrafficPolicy,
    trafficDistribution: spec.trafficDistribution,
  };
});
