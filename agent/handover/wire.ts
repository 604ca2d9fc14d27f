/**
 * What two agents of a node say to each other when one follows the other: JSON lines on the UNIX socket
 * `<run dir>/handover.sock`, listening sockets travelling along as descriptors (SCM_RIGHTS, unix(7)).
 *
 *     successor                          predecessor
 *     takeOver            ------------>  enrols no more, accepts no more
 *                         <------------  listeners (with descriptors), in pieces; end
 *     (serves the pods with them)
 *     taken               ------------>  lets its listeners go, lets its connections end
 *
 * Until `taken` nothing has happened that cannot be undone: a successor that disappears leaves the predecessor in charge.
 */
import { AmbitError } from '../../core/errors.ts';
import type { LentListener } from '../dataplane/messages.ts';

export const HANDOVER_SOCKET_NAME = 'handover.sock';
export const HANDOVER_VERSION = 1;
/** Listeners in one piece; the kernel passes at most 253 descriptors at once. */
export const LISTENERS_PER_PIECE = 96;
/** More than a node has pods, times the listeners of a pod. */
export const MAX_LISTENERS = 100_000;
export const MAX_LINE_BYTES = 64 * 1024;
/** For each side, from the first word to the last. */
export const HANDOVER_TIMEOUT_MS = 10_000;

export type FromSuccessor = { readonly kind: 'takeOver'; readonly version: number } | { readonly kind: 'taken' };

export type FromPredecessor =
  /** One descriptor per entry travels with the line. */
  | { readonly kind: 'listeners'; readonly entries: readonly ListenerEntry[] }
  | { readonly kind: 'end'; readonly count: number }
  | { readonly kind: 'refused'; readonly reason: string };

export type ListenerEntry = Omit<LentListener, 'descriptor'>;

export function encodeLine(message: FromSuccessor | FromPredecessor): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\n`);
}

/** Throws DECODE. */
export function decodeFromSuccessor(line: string): FromSuccessor {
  const fields = parse(line);
  if (fields.kind === 'taken') return { kind: 'taken' };
  if (fields.kind === 'takeOver' && typeof fields.version === 'number') {
    return { kind: 'takeOver', version: fields.version };
  }
  throw new AmbitError('DECODE', 'the successor says something that is not understood');
}

/** Throws DECODE. */
export function decodeFromPredecessor(line: string): FromPredecessor {
  const fields = parse(line);
  if (fields.kind === 'end' && typeof fields.count === 'number') return { kind: 'end', count: fields.count };
  if (fields.kind === 'refused' && typeof fields.reason === 'string') {
    return { kind: 'refused', reason: fields.reason.slice(0, 1000) };
  }
  if (fields.kind === 'listeners' && Array.isArray(fields.entries) && fields.entries.length <= LISTENERS_PER_PIECE) {
    return { kind: 'listeners', entries: fields.entries.map(decodeEntry) };
  }
  throw new AmbitError('DECODE', 'the predecessor says something that is not understood');
}

function decodeEntry(value: unknown): ListenerEntry {
  const fields = record(value);
  const { uid, port } = fields;
  if (typeof uid !== 'string' || uid.length > 256 || typeof port !== 'number' || !(port > 0 && port < 65_536)) {
    throw new AmbitError('DECODE', 'a listener without pod or port');
  }
  return { uid, port };
}

function parse(line: string): Record<string, unknown> {
  try {
    return record(JSON.parse(line));
  } catch (cause) {
    throw new AmbitError('DECODE', 'not a JSON object', { cause });
  }
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AmbitError('DECODE', 'not an object');
  }
  return { ...value };
}
