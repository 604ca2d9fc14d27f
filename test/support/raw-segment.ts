/**
 * One TCP segment over IPv4, built by hand and sent from a raw socket inside a network namespace: what a process with
 * NET_RAW can put on the network beside what its kernel would send.
 */
import assert from 'node:assert/strict';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { native } from '../../reactor/sys/ffi.ts';

const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_TCP = 6;

const libc = {
  socket: native<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)'),
  sendto: native<(fd: number, data: Buffer, length: number, flags: number, to: Buffer, toLength: number) => number>(
    'int64_t sendto(int, const void *, size_t, int, const void *, uint32_t)',
  ),
  close: native<(fd: number) => number>('int close(int)'),
};

export const ACK = 0x10;

export interface RawSegment {
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
  readonly toPort: number;
  /** The flags byte. */
  readonly flags: number;
  /** Padded to whole words by the caller. */
  readonly options: Buffer;
}

/** Sends the segment from the namespace at `path`. */
export function sendRawSegment(path: string, segment: RawSegment): void {
  const bytes = encode(segment);
  const target = Buffer.alloc(16);
  target.writeUInt16LE(AF_INET, 0);
  ipv4(segment.to).copy(target, 4);
  const netns = NetworkNamespace.openPath(path);
  try {
    netns.run(() => {
      const fd = libc.socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
      assert.ok(fd >= 0, 'a raw socket');
      const sent = Number(libc.sendto(fd, bytes, bytes.length, 0, target, target.length));
      libc.close(fd);
      assert.equal(sent, bytes.length);
    });
  } finally {
    netns.close();
  }
}

function encode({ from, fromPort, to, toPort, flags, options }: RawSegment): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(fromPort, 0);
  header.writeUInt16BE(toPort, 2);
  header.writeUInt32BE(1000, 4);
  header.writeUInt32BE(2000, 8);
  header[12] = ((20 + options.length) / 4) << 4;
  header[13] = flags;
  header.writeUInt16BE(64_000, 14);
  const bytes = Buffer.concat([header, options]);
  const pseudo = Buffer.concat([ipv4(from), ipv4(to), Buffer.from([0, IPPROTO_TCP, 0, bytes.length])]);
  bytes.writeUInt16BE(checksum(Buffer.concat([pseudo, bytes])), 16);
  return bytes;
}

function ipv4(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number));
}

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
