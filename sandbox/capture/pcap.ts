/**
 * Decoder of a pcap stream as tcpdump writes it (`-w -`): the classic file format with microsecond or nanosecond times,
 * either byte order, Ethernet frames. Total: bytes that are no pcap end in one `DECODE` error.
 */
import { AmbitError } from '../../core/errors.ts';

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const LINKTYPE_ETHERNET = 1;
/** tcpdump's own default limit of a captured frame. */
const MAX_FRAME_BYTES = 262_144;

export class PcapDecoder {
  readonly #onFrame: (frame: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);
  #bigEndian: boolean | undefined;

  /** `onFrame` gets each whole frame; the buffer is only valid during the call. */
  constructor(onFrame: (frame: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /** Takes the next bytes of the stream. Throws `DECODE`. */
  push(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    if (this.#bigEndian === undefined) {
      if (bytes.length < FILE_HEADER_BYTES) {
        this.#rest = bytes;
        return;
      }
      this.#readFileHeader(bytes);
      bytes = bytes.subarray(FILE_HEADER_BYTES);
    }
    while (bytes.length >= RECORD_HEADER_BYTES) {
      const length = this.#uint32(bytes, 8);
      if (length > MAX_FRAME_BYTES) throw new AmbitError('DECODE', `capture: a frame of ${length} bytes`);
      if (bytes.length < RECORD_HEADER_BYTES + length) break;
      this.#onFrame(bytes.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length));
      bytes = bytes.subarray(RECORD_HEADER_BYTES + length);
    }
    // A copy, so that a large chunk is not kept alive by its last bytes.
    this.#rest = Buffer.from(bytes);
  }

  #readFileHeader(bytes: Buffer): void {
    const magic = bytes.readUInt32BE(0);
    if (magic === 0xa1b2c3d4 || magic === 0xa1b23c4d) this.#bigEndian = true;
    else if (magic === 0xd4c3b2a1 || magic === 0x4d3cb2a1) this.#bigEndian = false;
    else throw new AmbitError('DECODE', 'capture: not a pcap stream');
    const linkType = this.#uint32(bytes, 20);
    if (linkType !== LINKTYPE_ETHERNET)
      throw new AmbitError('DECODE', `capture: link type ${linkType} is not Ethernet`);
  }

  #uint32(bytes: Buffer, offset: number): number {
    return this.#bigEndian ? bytes.readUInt32BE(offset) : bytes.readUInt32LE(offset);
  }
}
