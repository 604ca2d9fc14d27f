/** A ByteChannel whose other side is the test: bytes are put in and taken out by hand, in pieces of any size. */
import type { Arena } from '../../reactor/arena.ts';
import { type ByteChannel, type ChannelOwner, NO_OWNER, WOULD_BLOCK } from '../../reactor/byte-channel.ts';

export class MemoryChannel implements ByteChannel {
  owner: ChannelOwner = NO_OWNER;
  interest = 0;
  closed = false;
  written = Buffer.alloc(0);
  /** Bytes a write accepts before it says WOULD_BLOCK. */
  writeRoom = Number.POSITIVE_INFINITY;
  #incoming = Buffer.alloc(0);

  /** Bytes the owner can read from now on; call `owner.onReadable` to tell it. */
  put(bytes: Uint8Array): void {
    this.#incoming = Buffer.concat([this.#incoming, bytes]);
  }

  read(arena: Arena, offset: number, length: number): number {
    const count = Math.min(length, this.#incoming.length);
    if (count === 0) return WOULD_BLOCK;
    this.#incoming.copy(arena.bytes, offset, 0, count);
    this.#incoming = this.#incoming.subarray(count);
    return count;
  }

  write(arena: Arena, offset: number, length: number): number {
    const count = Math.min(length, this.writeRoom);
    if (count <= 0) return WOULD_BLOCK;
    this.writeRoom -= count;
    this.written = Buffer.concat([this.written, arena.bytes.subarray(offset, offset + count)]);
    return count;
  }

  setInterest(interest: number): void {
    this.interest = interest;
  }
  shutdownWrite(): void {}
  close(): void {
    this.closed = true;
  }
  abort(): void {
    this.closed = true;
  }
}
