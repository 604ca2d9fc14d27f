/** What is spoken on a port, from what its author said of it. Pure. */
import { AppProtocol } from '../../api/gen/istio/workload/workload_pb.js';

const PROTOCOLS: ReadonlyMap<string, AppProtocol> = new Map([
  ['http', AppProtocol.HTTP11],
  ['grpc-web', AppProtocol.HTTP11],
  ['kubernetes.io/ws', AppProtocol.HTTP11],
  ['http2', AppProtocol.HTTP2],
  ['kubernetes.io/h2c', AppProtocol.HTTP2],
  ['grpc', AppProtocol.GRPC],
  ['tcp', AppProtocol.TCP],
  ['mongo', AppProtocol.TCP],
  ['mysql', AppProtocol.TCP],
  ['redis', AppProtocol.TCP],
  ['tls', AppProtocol.TLS],
  ['https', AppProtocol.TLS],
  ['kubernetes.io/wss', AppProtocol.TLS],
]);

/** `appProtocol`, else the first part of the port's name (`http-admin`), else unknown. */
export function appProtocol(port: { readonly name: string; readonly appProtocol: string | undefined }): AppProtocol {
  const stated = port.appProtocol === undefined ? undefined : PROTOCOLS.get(port.appProtocol.toLowerCase());
  if (stated !== undefined) return stated;
  const name = port.name.toLowerCase();
  if (name === 'grpc-web' || name.startsWith('grpc-web-')) return AppProtocol.HTTP11;
  const dash = name.indexOf('-');
  return PROTOCOLS.get(dash < 0 ? name : name.slice(0, dash)) ?? AppProtocol.UNKNOWN;
}
