/**
 * UNIX sockets in the run directory that only root may use: bound under a temporary name with mode 0600 and renamed into
 * place, so that a new agent takes a name over from an old one without a gap, and never removed by who did not make them.
 */
import { rename, rm } from 'node:fs/promises';
import type { Server, Socket } from 'node:net';
import { peerCredentials } from '../reactor/unix-socket.ts';

/** Resolves when clients can connect to `path`. */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await rm(temporary, { force: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // The file is created inside listen(): the mask makes it 0600 from its first moment.
  const mask = process.umask(0o177);
  try {
    server.listen({ path: temporary, exclusive: true }, resolve);
  } finally {
    process.umask(mask);
  }
  await promise;
  await rename(temporary, path);
}

/** The user at the other end is root or our own; the kernel is asked. */
export function isOurs(socket: Socket): boolean {
  const uid = findPeerUid(socket);
  return uid === 0 || (uid !== undefined && uid === process.geteuid?.());
}

/** Undefined when the kernel does not tell. */
export function findPeerUid(socket: Socket): number | undefined {
  const fd = findDescriptor(socket);
  if (fd === undefined) return undefined;
  try {
    return peerCredentials(fd).uid;
  } catch {
    return undefined;
  }
}

/** Node keeps it on an internal handle; undefined when a future Node keeps it elsewhere, or the socket is closed. */
export function findDescriptor(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
