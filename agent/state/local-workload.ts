/** One entry of `workloads` in the local configuration. */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  NetworkMode,
  type PortListSchema,
  TunnelProtocol,
  ApplicationTunnel_Protocol as TunnelTarget,
  WorkloadStatus,
  WorkloadType,
} from '../../api/gen/istio/workload/workload_pb.js';
import { gateway, ipBytes, portList } from './local-address.ts';
import type { EncodedResource } from './resource.ts';
import type { YamlNode } from './yaml-reader.ts';

const REQUIRED = ['workloadIps', 'namespace', 'services'] as const;
const FIELDS = [
  ...REQUIRED,
  'uid',
  'name',
  'trustDomain',
  'serviceAccount',
  'network',
  'protocol',
  'networkMode',
  'waypoint',
  'networkGateway',
  'workloadName',
  'workloadType',
  'canonicalName',
  'canonicalRevision',
  'hostname',
  'node',
  'nativeTunnel',
  'applicationTunnel',
  'authorizationPolicies',
  'status',
  'clusterId',
  'locality',
  'capacity',
] as const;

const PROTOCOLS = { HBONE: TunnelProtocol.HBONE, TCP: TunnelProtocol.NONE };
const NETWORK_MODES = { Standard: NetworkMode.STANDARD, HostNetwork: NetworkMode.HOST_NETWORK };
const STATUSES = { Healthy: WorkloadStatus.HEALTHY, Unhealthy: WorkloadStatus.UNHEALTHY };
const TUNNEL_TARGETS = { NONE: TunnelTarget.NONE, PROXY: TunnelTarget.PROXY };
const TYPES = {
  deployment: WorkloadType.DEPLOYMENT,
  cronjob: WorkloadType.CRONJOB,
  pod: WorkloadType.POD,
  job: WorkloadType.JOB,
};

/** A workload without a uid gets one of its namespace, its name and its first address. */
export function localWorkload(node: YamlNode): EncodedResource {
  const field = node.fields(FIELDS, REQUIRED);
  const namespace = field('namespace').text();
  const name = field('name').text();
  const addresses = field('workloadIps').list();
  const firstAddress = typeof addresses[0]?.value === 'string' ? addresses[0].value : '';
  const uid = field('uid').text() || ['local', namespace, name, firstAddress].join('/');
  const locality = field('locality');
  const localityField = locality.isPresent ? locality.fields(['region', 'zone', 'subzone']) : undefined;
  const tunnel = field('applicationTunnel');
  const tunnelField = tunnel.isPresent ? tunnel.fields(['protocol', 'port'], ['protocol']) : undefined;
  const services: Record<string, MessageInitShape<typeof PortListSchema>> = {};
  for (const [key, ports] of field('services').entries()) services[key] = portList(ports);
  const message = create(AddressSchema, {
    type: {
      case: 'workload',
      value: {
        uid,
        name,
        namespace,
        addresses: addresses.map(ipBytes),
        hostname: field('hostname').text(),
        network: field('network').text(),
        tunnelProtocol: field('protocol').choice(PROTOCOLS, TunnelProtocol.NONE),
        trustDomain: field('trustDomain').text(),
        serviceAccount: field('serviceAccount').text(),
        waypoint: gateway(field('waypoint')),
        networkGateway: gateway(field('networkGateway')),
        node: field('node').text(),
        canonicalName: field('canonicalName').text(),
        canonicalRevision: field('canonicalRevision').text(),
        workloadType: field('workloadType').choice(TYPES, WorkloadType.DEPLOYMENT),
        workloadName: field('workloadName').text(),
        nativeTunnel: field('nativeTunnel').boolean(),
        services,
        authorizationPolicies: field('authorizationPolicies')
          .list()
          .map((key) => key.text()),
        status: field('status').choice(STATUSES, WorkloadStatus.HEALTHY),
        clusterId: field('clusterId').text(),
        networkMode: field('networkMode').choice(NETWORK_MODES, NetworkMode.STANDARD),
        capacity: field('capacity').number(0xffffffff, 1),
        ...(localityField === undefined
          ? {}
          : {
              locality: {
                region: localityField('region').text(),
                zone: localityField('zone').text(),
                subzone: localityField('subzone').text(),
              },
            }),
        ...(tunnelField === undefined
          ? {}
          : {
              applicationTunnel: {
                protocol: tunnelField('protocol').choice(TUNNEL_TARGETS, TunnelTarget.NONE),
                port: tunnelField('port').number(65535),
              },
            }),
      },
    },
  });
  return { name: uid, version: '', bytes: toBinary(AddressSchema, message) };
}
