/** Integer socket options, through one scratch block per thread. */
import { EINTR, errno, systemCallError } from './errno.ts';
import { SIOCOUTQ, SO_LINGER, SOL_SOCKET, sys } from './libc.ts';
import { allocateBlock } from './memory.ts';

const scratch = allocateBlock(16);

/** Sets an integer option; throws SYSTEM_CALL when the kernel refuses. */
export function setOption(fd: number, level: number, option: number, value: number, name: string): void {
  scratch.bytes.writeInt32LE(value, 0);
  if (sys.setsockopt(fd, level, option, scratch.address, 4) !== 0) throw systemCallError('setsockopt', name);
}

/** Value of an integer option, or undefined when the kernel refuses (then `errno()` tells). */
export function readOption(fd: number, level: number, option: number): number | undefined {
  scratch.bytes.writeInt32LE(0, 0);
  scratch.bytes.writeUInt32LE(4, 8);
  if (sys.getsockopt(fd, level, option, scratch.address, scratch.address + 8) !== 0) return undefined;
  return scratch.bytes.readInt32LE(0);
}

/** Makes the next `close` send a reset (SO_LINGER with time 0). */
export function lingerZero(fd: number): void {
  scratch.bytes.writeInt32LE(1, 0);
  scratch.bytes.writeInt32LE(0, 4);
  sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, scratch.address, 8);
}

/** Bytes written to a TCP socket that its peer has not acknowledged yet. */
export function unacknowledgedBytes(fd: number): number {
  scratch.bytes.writeInt32LE(0, 0);
  return sys.ioctl(fd, SIOCOUTQ, scratch.address) === 0 ? scratch.bytes.readInt32LE(0) : 0;
}

/** Closes a descriptor; on Linux it is gone even when the call is interrupted. */
export function closeFd(fd: number): void {
  if (sys.close(fd) !== 0 && errno() !== EINTR) throw systemCallError('close', `descriptor ${fd}`);
}
