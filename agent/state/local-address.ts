/** Addresses, ports and gateways of the local configuration, as protobuf messages. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  GatewayAddressSchema,
  NetworkAddressSchema,
  PortListSchema,
} from '../../api/gen/istio/workload/workload_pb.js';
import { ipToBytes, parseIp } from '../../core/ip.ts';
import type { YamlNode } from './yaml-reader.ts';

const HBONE_SERVICE_PORT = 15008;

export function ipBytes(node: YamlNode): Uint8Array {
  const ip = node.parsed('an IP address', parseIp);
  return ip === undefined ? new Uint8Array() : ipToBytes(ip);
}

/** `<network>/<ip>`; the network may be empty. */
export function networkAddress(node: YamlNode): MessageInitShape<typeof NetworkAddressSchema> {
  return node.parsed('<network>/<ip>', parseNetworkAddress) ?? {};
}

/** A mapping from service port to target port. */
export function portList(node: YamlNode): MessageInitShape<typeof PortListSchema> {
  const ports = node.entries().map(([key, target]) => {
    const servicePort = /^[1-9][0-9]{0,4}$/.test(key) ? Number(key) : 0;
    if (servicePort < 1 || servicePort > 65535) target.problem('a service port as key');
    return { servicePort, targetPort: target.number(65535) };
  });
  return { ports };
}

/** `{destination: "<network>/<ip>" | "<namespace>/<hostname>", hboneMtlsPort}`; absent is undefined. */
export function gateway(node: YamlNode): MessageInitShape<typeof GatewayAddressSchema> | undefined {
  if (!node.isPresent) return undefined;
  const field = node.fields(['destination', 'hboneMtlsPort'], ['destination']);
  const hboneMtlsPort = field('hboneMtlsPort').number(65535, HBONE_SERVICE_PORT);
  const destination = field('destination').text();
  const address = parseNetworkAddress(destination);
  if (address !== undefined) return { destination: { case: 'address', value: address }, hboneMtlsPort };
  const slash = destination.indexOf('/');
  if (slash < 1 || slash === destination.length - 1)
    field('destination').problem('<network>/<ip> or <namespace>/<hostname>');
  const hostname = { namespace: destination.slice(0, slash), hostname: destination.slice(slash + 1) };
  return { destination: { case: 'hostname', value: hostname }, hboneMtlsPort };
}

function parseNetworkAddress(text: string): { network: string; address: Uint8Array } | undefined {
  const slash = text.indexOf('/');
  const ip = slash < 0 ? undefined : parseIp(text.slice(slash + 1));
  return ip === undefined ? undefined : { network: text.slice(0, slash), address: ipToBytes(ip) };
}
