/**
 * Whether two files that may be large (the plugin carries its runtime) hold the same bytes: sizes first, then checksums, read
 * in pieces. A file that has not changed since it was last read, by everything the file system tells of it, is not read again.
 */
import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';

interface Known {
  readonly identity: string;
  readonly checksum: string;
}

const PIECE_BYTES = 256 * 1024;
/** By path; a handful of files. */
const known = new Map<string, Known>();

/** False also when one of them cannot be read. Reading both takes some tenths of a second of work: nothing is read in vain. */
export async function haveSameContent(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => stat(path).catch(() => undefined)));
  if (first === undefined || second === undefined || first.size !== second.size) return false;
  const sum = await checksum(a);
  return sum !== undefined && sum === (await checksum(b));
}

/** SHA-256 in hexadecimal; undefined when the file cannot be read. */
async function checksum(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path);
    const { dev, ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
    const identity = [dev, ino, size, mtimeNs, ctimeNs].join(' ');
    const before = known.get(path);
    if (before?.identity === identity) return before.checksum;
    const hash = createHash('sha256');
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(piece, 0, PIECE_BYTES);
      if (bytesRead === 0) break;
      hash.update(piece.subarray(0, bytesRead));
    }
    const found = hash.digest('hex');
    known.set(path, { identity, checksum: found });
    return found;
  } catch {
    known.delete(path);
    return undefined;
  }
}
