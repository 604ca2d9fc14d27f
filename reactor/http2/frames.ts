/** Frame types, flags and the frame header of RFC 9113 sections 4.1 and 6. */
export const FRAME_HEADER_BYTES = 9;

export const FRAME_DATA = 0;
export const FRAME_HEADERS = 1;
export const FRAME_PRIORITY = 2;
export const FRAME_RST_STREAM = 3;
export const FRAME_SETTINGS = 4;
export const FRAME_PUSH_PROMISE = 5;
export const FRAME_PING = 6;
export const FRAME_GOAWAY = 7;
export const FRAME_WINDOW_UPDATE = 8;
export const FRAME_CONTINUATION = 9;

export const FLAG_END_STREAM = 1;
export const FLAG_ACK = 1;
export const FLAG_END_HEADERS = 4;
export const FLAG_PADDED = 8;

export const SETTING_MAX_CONCURRENT_STREAMS = 3;
export const SETTING_INITIAL_WINDOW_SIZE = 4;
export const SETTING_MAX_FRAME_SIZE = 5;

/** The window both ends of a connection begin with (section 6.9.2), and the largest there may be (section 6.9.1). */
export const DEFAULT_WINDOW_BYTES = 65_535;
export const MAX_WINDOW_BYTES = 0x7fffffff;

export function writeFrameHeader(
  bytes: Uint8Array,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  bytes[at] = length >>> 16;
  bytes[at + 1] = (length >>> 8) & 0xff;
  bytes[at + 2] = length & 0xff;
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  writeUint32(bytes, at + 5, streamId);
}

export function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = (value >>> 16) & 0xff;
  bytes[at + 2] = (value >>> 8) & 0xff;
  bytes[at + 3] = value & 0xff;
}

/** An unsigned 31-bit number: the first bit is reserved and ignored (sections 4.1 and 6.9). */
export function readUint31(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) & 0x7f) << 24) |
    ((bytes[at + 1] ?? 0) << 16) |
    ((bytes[at + 2] ?? 0) << 8) |
    (bytes[at + 3] ?? 0)
  );
}

/** A WINDOW_UPDATE frame (section 6.9), 13 bytes. */
export function writeWindowUpdate(bytes: Uint8Array, at: number, streamId: number, increment: number): void {
  writeFrameHeader(bytes, at, 4, FRAME_WINDOW_UPDATE, 0, streamId);
  writeUint32(bytes, at + FRAME_HEADER_BYTES, increment);
}
