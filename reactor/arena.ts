/**
 * An arena is a block of memory that sockets, TLS and protocol engines read into and write from without copies.
 *
 * Its address is known to `reactor/sys` alone; everybody else names bytes by offset and length, and every call checks both.
 * The owner frees it when no native object still refers to it; after `free` every use throws CLOSED.
 */
import { AmbitError } from '../core/errors.ts';
import { allocateBlock, type NativeBlock, releaseBlock } from './sys/memory.ts';

export class Arena {
  /** Size in bytes; 0 after `free`. */
  byteLength: number;
  readonly #block: NativeBlock;
  readonly #address: number;
  /** Equal to `byteLength`, and -1 after `free`, so that even an empty range is refused then. */
  #limit: number;

  /** Zeroed memory, `byteLength` from 1 byte to 1 GiB; physical pages are taken when first touched. */
  constructor(byteLength: number) {
    this.#block = allocateBlock(byteLength);
    this.#address = this.#block.address;
    this.byteLength = byteLength;
    this.#limit = byteLength;
  }

  /** The arena's memory; empty after `free`. */
  get bytes(): Buffer {
    return this.#block.bytes;
  }

  /** Gives the memory back now. Idempotent. */
  free(): void {
    this.byteLength = 0;
    this.#limit = -1;
    releaseBlock(this.#block);
  }

  /**
   * Native address of `length` bytes at `offset`; for `reactor/` only.
   * Throws USAGE when the range does not lie inside the arena, CLOSED after `free`.
   */
  addressOf(offset: number, length: number): number {
    if (offset >= 0 && length >= 0 && offset + length <= this.#limit) return this.#address + offset;
    throw this.#rangeError(offset, length);
  }

  #rangeError(offset: number, length: number): AmbitError {
    if (this.#limit < 0) return new AmbitError('CLOSED', 'arena used after it was freed');
    return new AmbitError('USAGE', `range ${offset}+${length} outside an arena of ${this.byteLength} bytes`);
  }
}
