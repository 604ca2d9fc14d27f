/** Protobuf by hand, for clients that must not share code with what they test: length-delimited fields and numbers. */
import assert from 'node:assert/strict';

/** A length-delimited field. */
export function field(number: number, content: string | Uint8Array): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : Buffer.from(content);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

/** A number. */
export function numberField(number: number, value: number): Buffer {
  return Buffer.concat([varint(number << 3), varint(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest & 127) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

export type Fields = ReadonlyMap<number, readonly (Buffer | number)[]>;

/** Fields by number, in order: bytes of length-delimited ones, numbers of varints. */
export function parseFields(bytes: Buffer): Fields {
  const fields = new Map<number, (Buffer | number)[]>();
  let at = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = readVarint();
    const list = fields.get(tag >> 3) ?? [];
    fields.set(tag >> 3, list);
    if ((tag & 7) === 0) list.push(readVarint());
    else {
      assert.equal(tag & 7, 2);
      const length = readVarint();
      list.push(bytes.subarray(at, at + length));
      at += length;
    }
  }
  return fields;
}

export function textsOf(fields: Fields, number: number): string[] {
  return (fields.get(number) ?? []).map((value) => value.toString());
}

export function messagesOf(fields: Fields, number: number): Fields[] {
  return bytesOf(fields, number).map(parseFields);
}

export function bytesOf(fields: Fields, number: number): Buffer[] {
  return (fields.get(number) ?? []).filter((value): value is Buffer => typeof value !== 'number');
}
