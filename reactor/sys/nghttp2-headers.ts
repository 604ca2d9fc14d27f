/**
 * Encodes header lists as the `nghttp2_nv` array the engine takes: {name, value, name length, value length, flags}, 40
 * bytes each. One scratch area per thread: the engine copies names and values inside the submit call.
 */
import { AmbitError } from '../../core/errors.ts';
import type { HeaderList } from '../http2/headers.ts';
import { allocateBlock } from './memory.ts';

const PAIR_BYTES = 40;
const MAX_FIELDS = 256;
const MAX_TEXT_BYTES = 96 * 1024;

const pairs = allocateBlock(MAX_FIELDS * PAIR_BYTES);
const text = allocateBlock(MAX_TEXT_BYTES);

/** Address of the encoded array; valid until the next call. Throws USAGE when the list is larger than any peer may be sent. */
export function encodeHeaderPairs(headers: HeaderList): number {
  if (headers.length > MAX_FIELDS) throw new AmbitError('USAGE', `${headers.length} header fields`);
  let at = 0;
  for (let index = 0; index < headers.length; index++) {
    const pair = headers[index];
    if (pair === undefined) break;
    const [name, value] = pair;
    if (at + name.length + value.length > MAX_TEXT_BYTES) throw new AmbitError('USAGE', 'header list too large');
    const base = index * PAIR_BYTES;
    writeAddress(base, text.address + at);
    text.bytes.write(name, at, 'latin1');
    at += name.length;
    writeAddress(base + 8, text.address + at);
    text.bytes.write(value, at, 'latin1');
    at += value.length;
    pairs.bytes.writeUInt32LE(name.length, base + 16);
    pairs.bytes.writeUInt32LE(value.length, base + 24);
  }
  return pairs.address;
}

function writeAddress(offset: number, address: number): void {
  pairs.bytes.writeUInt32LE(address % 0x1_0000_0000, offset);
  pairs.bytes.writeUInt32LE(Math.floor(address / 0x1_0000_0000), offset + 4);
}
