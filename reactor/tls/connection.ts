import { AmbitError } from '../../core/errors.ts';
import type { Arena } from '../arena.ts';
import { type ByteChannel, type ChannelOwner, NO_OWNER } from '../byte-channel.ts';
import type { EventLoop } from '../loop.ts';
import type { TcpSocket } from '../tcp-socket.ts';
import type { TlsContext } from './context.ts';
import type { TlsSession } from './session.ts';

export interface TlsHandshake {
  readonly timeoutMs: number;
  onSecure(connection: TlsConnection): void;
  /** TLS_HANDSHAKE with the reason, or TLS_TIMEOUT; the socket is closed already. */
  onHandshakeFailed(error: AmbitError): void;
  readonly resume?: TlsSession;
}
export class TlsConnection implements ByteChannel {
  readonly tcp: TcpSocket;
  owner: ChannelOwner = NO_OWNER;
  closed = false;
  readonly alpn: string = '';
  readonly group: string = '';
  readonly resumed: boolean = false;
  onSession: ((session: TlsSession) => void) | undefined = undefined;
  constructor(_loop: EventLoop, socket: TcpSocket, _context: TlsContext, _handshake: TlsHandshake) {
    this.tcp = socket;
    throw new AmbitError('USAGE', 'not there yet');
  }
  peerCertificates(): Uint8Array[] {
    return [];
  }
  read(_arena: Arena, _offset: number, _length: number): number {
    return -11;
  }
  write(_arena: Arena, _offset: number, _length: number): number {
    return -11;
  }
  setInterest(_interest: number): void {}
  shutdownWrite(): void {}
  close(): void {}
  abort(): void {}
}
