/**
 * Memory that native calls touch: blocks outside the JavaScript heap whose address never changes while they live.
 *
 * A block is backed by an ArrayBuffer of its own (never by Node's shared pool, never inside the V8 heap), so the collector
 * cannot move it; the block keeps it alive. `release` gives the memory back at once by detaching the buffer. Addresses are
 * plain numbers (user space addresses fit in 48 bits) and exist only under `reactor/sys` and in the calls made from there.
 */
import koffi from 'koffi';
import { AmbitError } from '../../core/errors.ts';

export interface NativeBlock {
  readonly bytes: Buffer;
  readonly address: number;
}

/** Zeroed memory of `byteLength` bytes (1 to 1 GiB). The caller keeps the block referenced while native code may use it. */
export function allocateBlock(byteLength: number): NativeBlock {
  if (!Number.isInteger(byteLength) || byteLength < 1 || byteLength > 1 << 30) {
    throw new AmbitError('USAGE', `native block of ${byteLength} bytes`);
  }
  const bytes = Buffer.from(new ArrayBuffer(byteLength));
  return { bytes, address: Number(koffi.address(bytes)) };
}

/** A block that holds a copy of `bytes` (an empty input gives one zero byte, so that the address is valid). */
export function blockFrom(bytes: Uint8Array): NativeBlock {
  const block = allocateBlock(Math.max(1, bytes.length));
  block.bytes.set(bytes);
  return block;
}

/** Frees the memory now; every view of it has length 0 afterwards. */
export function releaseBlock(block: NativeBlock): void {
  const buffer = block.bytes.buffer;
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}

/** Copies `length` bytes at a native address into the JavaScript heap. The range must be readable: only for results of C calls. */
export function copyFromNative(address: number, length: number): Buffer {
  if (address === 0 || length === 0) return Buffer.alloc(0);
  return Buffer.from(Buffer.from(koffi.view(address, length)));
}
