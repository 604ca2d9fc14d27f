import type { AmbitError } from '../../core/errors.ts';
import type { IpAddress, SocketAddress } from '../../core/ip.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';

export type InboundDecision =
  | {
      readonly kind: 'dial';
      /** Where the application listens; also the destination that authorization is about. */
      readonly address: SocketAddress;
      /** For metrics; undefined when no service of the workload fits. */
      readonly service: Service | undefined;
      /** Set when the application expects a PROXY protocol v2 header naming this destination. */
      readonly proxyDestination: SocketAddress | undefined;
    }
  | { readonly kind: 'refuse'; readonly status: 400 | 503; readonly error: AmbitError };

/**
 * @param dialedIp the local address the tunnel was opened to
 * @param forwardedHost the `host` of the request's `forwarded` header, a hint for choosing `service`
 */
export function decideInbound(
  _state: MeshState,
  _local: Workload,
  dialedIp: IpAddress,
  _authority: string,
  _forwardedHost?: string,
): InboundDecision {
  return { kind: 'dial', address: { ip: dialedIp, port: 80 }, service: undefined, proxyDestination: undefined };
}

/** The service a connection to `port` of the workload is most likely for (metrics only). */
export function guessInboundService(
  _state: MeshState,
  _local: Workload,
  _port: number,
  _forwardedHost?: string,
): Service | undefined {
  return undefined;
}
