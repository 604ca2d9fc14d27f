/** `istio.workload.Workload` to a `Workload` record: every field checked, defaults filled in, repeated values shared. */
import {
  type GatewayAddress as GatewayMessage,
  NetworkMode,
  type PortList,
  TunnelProtocol,
  ApplicationTunnel_Protocol as TunnelTarget,
  type Workload as WorkloadMessage,
  WorkloadStatus,
  WorkloadType as WorkloadTypeValue,
} from '../../api/gen/istio/workload/workload_pb.js';
import { formatSpiffeId, isSpiffeId } from '../../core/spiffe.ts';
import { address, enumeration, name, optionalName, port, portOrZero, refuse } from './decode-fields.ts';
import type { SharedValues } from './shared-values.ts';
import type { GatewayAddress, Membership, PortMapping, Workload, WorkloadType } from './workload.ts';

/** Stand-ins for fields that are empty on the wire. */
export const DEFAULT_TRUST_DOMAIN = 'cluster.local';
export const DEFAULT_SERVICE_ACCOUNT = 'default';
export const DEFAULT_CLUSTER_ID = 'Kubernetes';

/** LEGACY_ISTIO_MTLS is absent on purpose: no agent speaks it. */
const TUNNEL_PROTOCOLS = { [TunnelProtocol.NONE]: 'NONE', [TunnelProtocol.HBONE]: 'HBONE' } as const;
const HOST_NETWORK = { [NetworkMode.STANDARD]: false, [NetworkMode.HOST_NETWORK]: true } as const;
const HEALTHY = { [WorkloadStatus.HEALTHY]: true, [WorkloadStatus.UNHEALTHY]: false } as const;
const TUNNEL_TARGETS = { [TunnelTarget.NONE]: 'NONE', [TunnelTarget.PROXY]: 'PROXY' } as const;
const WORKLOAD_TYPES: Readonly<Record<number, WorkloadType>> = {
  [WorkloadTypeValue.DEPLOYMENT]: 'deployment',
  [WorkloadTypeValue.CRONJOB]: 'cronjob',
  [WorkloadTypeValue.POD]: 'pod',
  [WorkloadTypeValue.JOB]: 'job',
};

/** Throws `AmbitError('DECODE')` when the message is not a workload this version can serve. */
export function decodeWorkload(message: WorkloadMessage, shared: SharedValues): Workload {
  const namespace = shared.text(name('namespace', message.namespace));
  const serviceAccount = shared.text(
    optionalName('service_account', message.serviceAccount || DEFAULT_SERVICE_ACCOUNT),
  );
  const trustDomain = shared.text(optionalName('trust_domain', message.trustDomain || DEFAULT_TRUST_DOMAIN));
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount });
  if (!isSpiffeId(identity)) return refuse('trust_domain, namespace, service_account', 'form no SPIFFE identity');
  const identities = shared.identities.get(identity, () => [identity]);
  const { applicationTunnel, locality, waypoint, networkGateway } = message;
  return {
    uid: name('uid', message.uid),
    name: optionalName('name', message.name),
    namespace,
    addresses: message.addresses.map((bytes) => address('addresses', bytes)),
    hostname: optionalName('hostname', message.hostname),
    network: shared.text(optionalName('network', message.network)),
    tunnelProtocol: enumeration('tunnel_protocol', TUNNEL_PROTOCOLS, message.tunnelProtocol),
    trustDomain,
    serviceAccount,
    identity: identities[0] ?? identity,
    identities,
    waypoint: waypoint === undefined ? undefined : decodeGateway('waypoint', waypoint, shared),
    networkGateway:
      networkGateway === undefined ? undefined : decodeGateway('network_gateway', networkGateway, shared, portOrZero),
    node: shared.text(optionalName('node', message.node)),
    canonicalName: shared.text(message.canonicalName),
    canonicalRevision: shared.text(message.canonicalRevision),
    workloadType: enumeration('workload_type', WORKLOAD_TYPES, message.workloadType),
    workloadName: shared.text(message.workloadName),
    nativeTunnel: message.nativeTunnel,
    applicationTunnel:
      applicationTunnel === undefined
        ? undefined
        : {
            protocol: enumeration('application_tunnel.protocol', TUNNEL_TARGETS, applicationTunnel.protocol),
            port: portOrZero('application_tunnel.port', applicationTunnel.port),
          },
    memberships: decodeMemberships(message.services, shared),
    authorizationPolicies: shared.policyLists.get(message.authorizationPolicies.join('\n'), () =>
      message.authorizationPolicies.map((key) => shared.text(key)),
    ),
    healthy: enumeration('status', HEALTHY, message.status),
    clusterId: shared.text(message.clusterId || DEFAULT_CLUSTER_ID),
    locality: shared.localities.get(`${locality?.region}\n${locality?.zone}\n${locality?.subzone}`, () => ({
      region: locality?.region ?? '',
      zone: locality?.zone ?? '',
      subzone: locality?.subzone ?? '',
    })),
    hostNetwork: enumeration('network_mode', HOST_NETWORK, message.networkMode),
    capacity: message.capacity ?? 1,
  };
}

/**
 * Throws `AmbitError('DECODE')` for a gateway without destination or port. A network gateway, which stands in every
 * workload of its network, may be without port: it cannot be used then, and nothing else suffers.
 */
export function decodeGateway(
  field: string,
  message: GatewayMessage,
  shared: SharedValues,
  checkPort: typeof port = port,
): GatewayAddress {
  const hbonePort = checkPort(`${field}.hbone_mtls_port`, message.hboneMtlsPort);
  const { destination } = message;
  switch (destination.case) {
    case 'address': {
      const network = shared.text(optionalName(`${field}.network`, destination.value.network));
      const ip = address(`${field}.address`, destination.value.address);
      const { length } = destination.value;
      if (length !== undefined && length !== destination.value.address.length * 8)
        return refuse(`${field}.address`, 'is a block, not an address');
      return shared.gateways.get(`${network}\n${ip}\n${hbonePort}`, () => ({
        kind: 'address',
        network,
        ip,
        port: hbonePort,
      }));
    }
    case 'hostname': {
      const namespace = shared.text(name(`${field}.namespace`, destination.value.namespace));
      const hostname = shared.text(name(`${field}.hostname`, destination.value.hostname));
      return shared.gateways.get(`${namespace}/${hostname}/${hbonePort}`, () => ({
        kind: 'hostname',
        namespace,
        hostname,
        port: hbonePort,
      }));
    }
    case undefined:
      return refuse(field, 'has no destination of a known kind');
  }
}

/** Service ports must be ports, target ports may be 0 (named). */
export function decodePorts(field: string, list: PortList): PortMapping[] {
  return list.ports.map(({ servicePort, targetPort }) => ({
    servicePort: port(`${field}.service_port`, servicePort),
    targetPort: portOrZero(`${field}.target_port`, targetPort),
  }));
}

const NO_MEMBERSHIPS: readonly Membership[] = [];

function decodeMemberships(services: Readonly<Record<string, PortList>>, shared: SharedValues): readonly Membership[] {
  let key = '';
  for (const serviceKey in services) {
    key += `${serviceKey}\n`;
    for (const { servicePort, targetPort } of services[serviceKey]?.ports ?? []) key += `${servicePort}:${targetPort},`;
  }
  if (key === '') return NO_MEMBERSHIPS;
  return shared.memberships.get(key, () =>
    Object.entries(services).map(([serviceKey, list]) => {
      const slash = serviceKey.indexOf('/');
      if (slash < 1 || slash === serviceKey.length - 1)
        return refuse('services', `the key ${JSON.stringify(serviceKey.slice(0, 64))} is not <namespace>/<hostname>`);
      return { serviceKey: shared.text(serviceKey), ports: decodePorts('services', list) };
    }),
  );
}
