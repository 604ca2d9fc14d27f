/** One entry of `services` in the local configuration. */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  LoadBalancing_HealthPolicy as HealthPolicy,
  IPFamilies,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
  ServiceVisibility,
} from '../../api/gen/istio/workload/workload_pb.js';
import { parseCidr } from '../../core/ip.ts';
import { gateway, networkAddress, portList } from './local-address.ts';
import type { EncodedResource } from './resource.ts';
import { serviceKey } from './service.ts';
import type { YamlNode } from './yaml-reader.ts';

const REQUIRED = ['name', 'namespace', 'hostname', 'vips', 'ports'] as const;
const FIELDS = [
  ...REQUIRED,
  'cidrVips',
  'subjectAltNames',
  'waypoint',
  'weightedWaypoints',
  'loadBalancer',
  'ipFamilies',
  'canonical',
  'visibility',
] as const;

const SCOPES = {
  Region: Scope.REGION,
  Zone: Scope.ZONE,
  Subzone: Scope.SUBZONE,
  Node: Scope.NODE,
  Cluster: Scope.CLUSTER,
  Network: Scope.NETWORK,
};
const MODES = {
  Standard: Mode.UNSPECIFIED_MODE,
  Strict: Mode.STRICT,
  Failover: Mode.FAILOVER,
  Passthrough: Mode.PASSTHROUGH,
};
const HEALTH_POLICIES = { OnlyHealthy: HealthPolicy.ONLY_HEALTHY, AllowAll: HealthPolicy.ALLOW_ALL };
const IP_FAMILIES = { Dual: IPFamilies.DUAL, IPv4: IPFamilies.IPV4_ONLY, IPv6: IPFamilies.IPV6_ONLY };
const VISIBILITIES = { Public: ServiceVisibility.PUBLIC, Namespace: ServiceVisibility.NAMESPACE };

/** Endpoints are not written here but in the `services` of workloads. */
export function localService(node: YamlNode): EncodedResource {
  const field = node.fields(FIELDS, REQUIRED);
  const namespace = field('namespace').text();
  const hostname = field('hostname').text();
  const waypoint = gateway(field('waypoint'));
  const loadBalancing = loadBalancer(field('loadBalancer'));
  const message = create(AddressSchema, {
    type: {
      case: 'service',
      value: {
        name: field('name').text(),
        namespace,
        hostname,
        addresses: [...field('vips').list().map(networkAddress), ...field('cidrVips').list().map(cidrVip)],
        ports: portList(field('ports')).ports ?? [],
        subjectAltNames: field('subjectAltNames')
          .list()
          .map((name) => name.text()),
        weightedWaypoints: field('weightedWaypoints').list().map(weightedWaypoint),
        ipFamilies: field('ipFamilies').choice(IP_FAMILIES, IPFamilies.AUTOMATIC),
        canonical: field('canonical').boolean(),
        visibility: field('visibility').choice(VISIBILITIES, ServiceVisibility.PUBLIC),
        ...(waypoint === undefined ? {} : { waypoint }),
        ...(loadBalancing === undefined ? {} : { loadBalancing }),
      },
    },
  });
  return { name: serviceKey(namespace, hostname), version: '', bytes: toBinary(AddressSchema, message) };
}

function cidrVip(node: YamlNode) {
  const field = node.fields(['network', 'cidr'], ['network', 'cidr']);
  const block = field('cidr').parsed('a block <ip>/<length>', parseCidr);
  return {
    network: field('network').text(),
    address: block?.bytes ?? new Uint8Array(),
    length: block?.prefixLength ?? 0,
  };
}

function weightedWaypoint(node: YamlNode) {
  const field = node.fields(['destination', 'weight'], ['destination', 'weight']);
  const destination = gateway(field('destination'));
  return { weight: field('weight').number(0xffffffff), ...(destination === undefined ? {} : { destination }) };
}

function loadBalancer(node: YamlNode) {
  if (!node.isPresent) return undefined;
  const field = node.fields(['routingPreferences', 'mode', 'healthPolicy']);
  return {
    routingPreference: field('routingPreferences')
      .list()
      .map((scope) => scope.choice(SCOPES, Scope.UNSPECIFIED_SCOPE)),
    mode: field('mode').choice(MODES, Mode.UNSPECIFIED_MODE),
    healthPolicy: field('healthPolicy').choice(HEALTH_POLICIES, HealthPolicy.ONLY_HEALTHY),
  };
}
