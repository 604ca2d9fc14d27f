import { AmbitError } from '../core/errors.ts';
import type { IpAddress, SocketAddress } from '../core/ip.ts';
import type { EventLoop } from './loop.ts';
import type { NetworkNamespace } from './netns.ts';
import type { TcpSocket } from './tcp-socket.ts';

export interface ConnectOptions {
  readonly to: SocketAddress;
  /** Source address, foreign ones included (IP_TRANSPARENT, IP_FREEBIND); not bound when equal to `to.ip`. */
  readonly from?: IpAddress;
  readonly mark?: number;
  readonly netns?: NetworkNamespace;
  /** Default 10 s. */
  readonly timeoutMs?: number;
}
export interface ConnectHandler {
  onConnected(socket: TcpSocket): void;
  /** CONNECT_FAILED with errno, or CONNECT_TIMEOUT. */
  onConnectFailed(error: AmbitError): void;
}
export interface ConnectAttempt {
  /** No callback follows. Idempotent. */
  cancel(): void;
}
export function connectTcp(_loop: EventLoop, _options: ConnectOptions, _handler: ConnectHandler): ConnectAttempt {
  throw new AmbitError('USAGE', 'not there yet');
}
