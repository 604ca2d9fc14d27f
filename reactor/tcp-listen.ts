import { AmbitError } from '../core/errors.ts';
import type { IpAddress, SocketAddress } from '../core/ip.ts';
import type { EventLoop } from './loop.ts';
import type { NetworkNamespace } from './netns.ts';
import type { TcpSocket } from './tcp-socket.ts';

export interface ListenOptions {
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** Default: wildcard of both families, IPv4 alone where there is no IPv6. */
  readonly ip?: IpAddress;
  readonly netns?: NetworkNamespace;
  readonly mark?: number;
  readonly reusePort?: boolean;
  readonly transparent?: boolean;
  readonly backlog?: number;
  /** Accepted sockets probe an idle peer: 180 s, 180 s, 9 times. */
  readonly keepAlive?: boolean;
}
export interface TcpListener {
  readonly address: SocketAddress;
  close(): void;
  pause(): void;
  resume(): void;
}
export function listenTcp(
  _loop: EventLoop,
  _options: ListenOptions,
  _onAccept: (socket: TcpSocket) => void,
): TcpListener {
  throw new AmbitError('USAGE', 'not there yet');
}
