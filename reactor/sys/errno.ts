/**
 * `errno` of the calling thread, read straight from its memory cell, the numbers the reactor tells apart, and their names.
 *
 * Read `errno()` at once after a failed call and only then: a successful call leaves it as it was.
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { AmbitError } from '../../core/errors.ts';
import { native } from './ffi.ts';

const cell = new Int32Array(koffi.view(native<() => number>('uintptr_t __errno_location()')(), 4));

/** Error number of the last failed call of this thread, positive. */
export function errno(): number {
  return cell[0] ?? 0;
}

export const ENOENT = 2;
export const EINTR = 4;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const ENFILE = 23;
export const EMFILE = 24;
export const EPIPE = 32;
export const EPROTO = 71;
export const EAFNOSUPPORT = 97;
export const EADDRNOTAVAIL = 99;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const EINPROGRESS = 115;

/** Result of a hot call that failed: `-errno`; an interrupted call counts as one that would block. */
export function failedResult(): number {
  const number = cell[0] ?? 0;
  return number === EINTR || number === 0 ? -EAGAIN : -number;
}

const names = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) if (!names.has(number)) names.set(number, name);

/** `ECONNREFUSED` for 111 and so on; unknown numbers keep their digits. */
export function errnoName(number: number): string {
  return names.get(number) ?? `errno ${number}`;
}

/** SYSTEM_CALL with the name of the call and of the error; call at once after the failure. */
export function systemCallError(call: string, detail: string, number = errno()): AmbitError {
  return new AmbitError('SYSTEM_CALL', `${call} ${detail}: ${errnoName(number)}`, { errno: number });
}
