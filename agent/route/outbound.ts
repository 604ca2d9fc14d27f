import type { AmbitError } from '../../core/errors.ts';
import type { IpAddress, SocketAddress } from '../../core/ip.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';

/** What a decision depends on besides the state of the mesh. */
export interface RouteSettings {
  readonly outboundPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  /** True: pods of one node also talk through a tunnel. */
  readonly forceEncryption: boolean;
  /** True when the workload with this uid (`Workload.uid`) is a pod captured by this agent. */
  isLocalPod(workloadUid: string): boolean;
}

export type OutboundDecision =
  /** Open a tunnel at `dial` (the peer must prove one of `expectedIdentities`) and ask it for `authority`. */
  | {
      readonly kind: 'tunnel';
      readonly dial: SocketAddress;
      readonly authority: string;
      readonly expectedIdentities: readonly SpiffeId[];
      readonly destination: Workload;
      readonly service: Service | undefined;
      readonly hop: 'direct' | 'waypoint';
    }
  /** Both ends are pods of this agent: evaluate inbound policy here and connect to `address` inside its namespace. */
  | {
      readonly kind: 'sameNode';
      readonly destination: Workload;
      readonly address: SocketAddress;
      readonly service: Service | undefined;
    }
  /** Connect without a tunnel. */
  | {
      readonly kind: 'plain';
      readonly dial: SocketAddress;
      readonly destination: Workload | undefined;
      readonly service: Service | undefined;
    }
  | {
      readonly kind: 'refuse';
      readonly error: AmbitError;
      readonly destination: Workload | undefined;
      readonly service: Service | undefined;
    };

export function decideOutbound(
  _state: MeshState,
  _source: Workload,
  _clientIp: IpAddress,
  target: SocketAddress,
  _settings: RouteSettings,
  _random: () => number,
): OutboundDecision {
  return { kind: 'plain', dial: target, destination: undefined, service: undefined };
}
