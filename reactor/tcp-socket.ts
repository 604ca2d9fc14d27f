import { AmbitError } from '../core/errors.ts';
import type { SocketAddress } from '../core/ip.ts';
import type { Arena } from './arena.ts';
import { type ByteChannel, type ChannelOwner, NO_OWNER } from './byte-channel.ts';

export class TcpSocket implements ByteChannel {
  readonly fd: number = -1;
  owner: ChannelOwner = NO_OWNER;
  closed = false;
  get remoteAddress(): SocketAddress {
    throw new AmbitError('USAGE', 'not there yet');
  }
  get localAddress(): SocketAddress {
    throw new AmbitError('USAGE', 'not there yet');
  }
  originalDestination(): SocketAddress | undefined {
    return undefined;
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
