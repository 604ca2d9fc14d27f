/**
 * As much of the protobuf wire format as the discovery protocol needs, without objects per field: sizes and writes into
 * one buffer, and a reader that walks over fields where they lie. Requests of a hundred thousand names are read in
 * slices and responses of as many resources are put together from bytes that exist already; general decoders can do
 * neither.
 */
import { AmbitError } from '../../core/errors.ts';

const LENGTH_DELIMITED = 2;

/** Bytes that `value` takes as a varint; `value` is below 2^32. */
export function varintSize(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  return value < 0x1000_0000 ? 4 : 5;
}

/** Size of a length-delimited field with `length` bytes of content; field numbers are below 16. */
export function fieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

/** Writes length-delimited fields into a buffer that is large enough, one behind the other. */
export class FieldWriter {
  readonly buffer: Buffer;
  offset = 0;

  constructor(size: number) {
    this.buffer = Buffer.allocUnsafe(size);
  }

  /** Tag and length; the content follows. */
  head(field: number, length: number): void {
    this.buffer[this.offset++] = (field << 3) | LENGTH_DELIMITED;
    let rest = length;
    while (rest > 127) {
      this.buffer[this.offset++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.buffer[this.offset++] = rest;
  }

  bytes(field: number, content: Uint8Array): void {
    this.head(field, content.length);
    this.buffer.set(content, this.offset);
    this.offset += content.length;
  }

  /** `length` is the length of `text` in UTF-8, when the caller knows it. */
  string(field: number, text: string, length = Buffer.byteLength(text)): void {
    this.head(field, length);
    this.offset += this.buffer.write(text, this.offset, length, 'utf8');
  }
}

/** Walks over the fields of one message. After `next()` is true, `field` and, where it has any, content are set. */
export class FieldReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;
  field = 0;
  /** Content of a length-delimited field; both -1 for other fields, whose values are skipped. */
  start = -1;
  end = -1;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** Goes to the next field; false at the end. @throws AmbitError `DECODE` for bytes that are no message */
  next(): boolean {
    if (this.#at >= this.#end) return false;
    const tag = this.#varint();
    this.field = tag >>> 3;
    this.start = -1;
    this.end = -1;
    switch (tag & 7) {
      case 0:
        this.#varint();
        break;
      case 1:
        this.#at += 8;
        break;
      case LENGTH_DELIMITED: {
        const length = this.#varint();
        this.start = this.#at;
        this.#at += length;
        this.end = this.#at;
        break;
      }
      case 5:
        this.#at += 4;
        break;
      default:
        throw new AmbitError('DECODE', 'a request has a field of an unknown form');
    }
    if (this.field === 0 || this.#at > this.#end) throw new AmbitError('DECODE', 'a request is cut off');
    return true;
  }

  /** The content as text. */
  text(): string {
    return this.start < 0 ? '' : this.#bytes.toString('utf8', this.start, this.end);
  }

  /** The content as a message. */
  message(): FieldReader {
    return new FieldReader(this.#bytes, Math.max(0, this.start), Math.max(0, this.end));
  }

  /** Above 2^53 the value is wrong, and no length is that large. */
  #varint(): number {
    let value = 0;
    let factor = 1;
    for (let index = 0; index < 10; index++) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined || this.#at > this.#end) break;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    throw new AmbitError('DECODE', 'a request has a number without an end');
  }
}
