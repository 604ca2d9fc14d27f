/**
 * What Node's UNIX sockets lack, on their descriptors: who is at the other end (SO_PEERCRED, unix(7)), and passing open
 * descriptors along with bytes (SCM_RIGHTS). The calls do not block and work on stream and seqpacket sockets alike.
 */
import { AmbitError } from '../core/errors.ts';
import { EPROTO, failedResult, systemCallError } from './sys/errno.ts';
import {
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SCM_RIGHTS,
  SO_PEERCRED,
  SOL_SOCKET,
  sys,
} from './sys/libc.ts';
import { allocateBlock, blockFrom, type NativeBlock, releaseBlock } from './sys/memory.ts';
import { closeFd } from './sys/socket-options.ts';

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface ReceivedMessage {
  /** Empty at the end of the stream. */
  readonly bytes: Buffer;
  /** Open descriptors, close-on-exec; the caller's now. */
  readonly descriptors: readonly number[];
}

/** SCM_MAX_FD of the kernel. */
const MAX_DESCRIPTORS = 253;
const MAX_MESSAGE_BYTES = 1 << 20;
/** struct msghdr: name, name length, vector, vector length, control, control length, flags; 8-byte fields. */
const HEADER_BYTES = 56;
const VECTOR_OFFSET = 16;
const CONTROL_OFFSET = 32;
const FLAGS_OFFSET = 48;
/** struct cmsghdr: length (8), level (4), type (4), then the descriptors. */
const CONTROL_HEADER_BYTES = 16;

const credentials = allocateBlock(16);

/** Process at the other end of a connected UNIX socket, as it was when it connected. Throws SYSTEM_CALL. */
export function peerCredentials(fd: number): PeerCredentials {
  credentials.bytes.writeUInt32LE(12, 12);
  if (sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials.address, credentials.address + 12) !== 0) {
    throw systemCallError('getsockopt', 'SO_PEERCRED');
  }
  const { bytes } = credentials;
  return { pid: bytes.readInt32LE(0), uid: bytes.readUInt32LE(4), gid: bytes.readUInt32LE(8) };
}

/** Sends `bytes` (at least one) with `descriptors`, which stay open here. Bytes sent, or -errno. Throws USAGE. */
export function sendDescriptors(fd: number, bytes: Uint8Array, descriptors: readonly number[]): number {
  if (bytes.length < 1 || bytes.length > MAX_MESSAGE_BYTES || descriptors.length > MAX_DESCRIPTORS) {
    throw new AmbitError('USAGE', `message of ${bytes.length} bytes with ${descriptors.length} descriptors`);
  }
  return withMessage(blockFrom(bytes), bytes.length, descriptors.length, (header, control) => {
    if (descriptors.length === 0) header.bytes.writeBigUInt64LE(0n, CONTROL_OFFSET + 8);
    control.bytes.writeBigUInt64LE(BigInt(CONTROL_HEADER_BYTES + 4 * descriptors.length), 0);
    control.bytes.writeInt32LE(SOL_SOCKET, 8);
    control.bytes.writeInt32LE(SCM_RIGHTS, 12);
    descriptors.forEach((descriptor, index) => {
      control.bytes.writeInt32LE(descriptor, CONTROL_HEADER_BYTES + 4 * index);
    });
    const sent = sys.sendmsg(fd, header.address, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent >= 0 ? sent : failedResult();
  });
}

/**
 * Receives one message, or what a stream has now. A negative number is -errno (WOULD_BLOCK: nothing there). A message longer
 * than `maxBytes` or with more than `maxDescriptors` is a breach of protocol: its descriptors are closed and the result is
 * -EPROTO. Throws USAGE.
 */
export function receiveDescriptors(fd: number, maxBytes: number, maxDescriptors: number): ReceivedMessage | number {
  if (!(maxBytes >= 1 && maxBytes <= MAX_MESSAGE_BYTES && maxDescriptors <= MAX_DESCRIPTORS)) {
    throw new AmbitError('USAGE', `room for ${maxBytes} bytes and ${maxDescriptors} descriptors`);
  }
  const data = allocateBlock(maxBytes);
  return withMessage(data, maxBytes, maxDescriptors, (header, control) => {
    const received = sys.recvmsg(fd, header.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received < 0) return failedResult();
    const descriptors = descriptorsIn(control, Number(header.bytes.readBigUInt64LE(CONTROL_OFFSET + 8)));
    if ((header.bytes.readInt32LE(FLAGS_OFFSET) & (MSG_CTRUNC | MSG_TRUNC)) !== 0) {
      for (const descriptor of descriptors) closeFd(descriptor);
      return -EPROTO;
    }
    return { bytes: Buffer.from(data.bytes.subarray(0, received)), descriptors };
  });
}

/** Closes descriptors that were received and are not wanted. */
export function discardDescriptors(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeFd(descriptor);
}

function withMessage<T>(
  data: NativeBlock,
  length: number,
  descriptors: number,
  work: (header: NativeBlock, control: NativeBlock) => T,
): T {
  const header = allocateBlock(HEADER_BYTES);
  const vector = allocateBlock(16);
  // The block has room for padding to 8 bytes; the length told to the kernel has not, so that no further descriptor fits.
  const control = allocateBlock(CONTROL_HEADER_BYTES + 8 * Math.ceil(descriptors / 2));
  vector.bytes.writeBigUInt64LE(BigInt(data.address), 0);
  vector.bytes.writeBigUInt64LE(BigInt(length), 8);
  header.bytes.writeBigUInt64LE(BigInt(vector.address), VECTOR_OFFSET);
  header.bytes.writeBigUInt64LE(1n, VECTOR_OFFSET + 8);
  header.bytes.writeBigUInt64LE(BigInt(control.address), CONTROL_OFFSET);
  header.bytes.writeBigUInt64LE(BigInt(CONTROL_HEADER_BYTES + 4 * descriptors), CONTROL_OFFSET + 8);
  try {
    return work(header, control);
  } finally {
    for (const block of [data, header, vector, control]) releaseBlock(block);
  }
}

function descriptorsIn(control: NativeBlock, length: number): number[] {
  const descriptors: number[] = [];
  const { bytes } = control;
  for (let at = 0; at + CONTROL_HEADER_BYTES <= length; ) {
    const size = Number(bytes.readBigUInt64LE(at));
    if (size < CONTROL_HEADER_BYTES || at + size > length) break;
    if (bytes.readInt32LE(at + 8) === SOL_SOCKET && bytes.readInt32LE(at + 12) === SCM_RIGHTS) {
      for (let place = at + CONTROL_HEADER_BYTES; place + 4 <= at + size; place += 4) {
        descriptors.push(bytes.readInt32LE(place));
      }
    }
    at += Math.ceil(size / 8) * 8;
  }
  return descriptors;
}
