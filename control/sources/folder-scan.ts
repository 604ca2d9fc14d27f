/**
 * Which files of a folder count, and whether they have settled. The only I/O is `stat`, `readdir` and `readFile`.
 *
 * A file counts when its name ends in .yaml, .yml or .json and it is no editor's by-product (hidden, ending in ~, with
 * .tmp or .swp in its name). Sub-folders are read too, to a bounded depth.
 */
import { type BigIntStats, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AmbitError, toAmbitError } from '../../core/errors.ts';

/** Largest file that is read, bytes. */
export const MAX_FILE_BYTES = 16 * 1024 * 1024;
const MAX_DEPTH = 8;
const MAX_FILES = 20_000;

export interface FileStamp {
  /** Identity and times of the content: equal stamp, equal content. */
  readonly stamp: string;
  /** Last change of content or name, milliseconds since the epoch. */
  readonly changedMs: number;
  readonly bytes: number;
}

export interface FolderListing {
  readonly files: ReadonlyMap<string, FileStamp>;
  /** Folders to watch, the root first. */
  readonly folders: readonly string[];
}

export function isObjectFile(name: string): boolean {
  return (
    /\.(ya?ml|json)$/.test(name) &&
    !name.startsWith('.') &&
    !name.startsWith('#') &&
    !/\.(tmp|swp|swx|bak)\b/.test(name)
  );
}

/** Lists what is there now. Files that vanish while it looks are left out. Throws when the root or a folder in it cannot be read. */
export function listFolder(root: string): FolderListing {
  const files = new Map<string, FileStamp>();
  const folders: string[] = [];
  const visit = (folder: string, prefix: string, depth: number): void => {
    folders.push(folder);
    for (const entry of readdirSync(folder).sort()) {
      const path = join(folder, entry);
      const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
      if (stats === undefined) continue;
      if (stats.isDirectory()) {
        // ConfigMap volumes show each file through a link beside hidden folders.
        if (!entry.startsWith('.') && depth < MAX_DEPTH) visitIfPresent(path, `${prefix}${entry}/`, depth + 1);
      } else if (stats.isFile() && isObjectFile(entry)) {
        // Leaving some out would remove what they hold.
        if (files.size >= MAX_FILES) throw new AmbitError('CONFIGURATION', `more than ${MAX_FILES} files`);
        files.set(prefix + entry, stampOf(stats));
      }
    }
  };
  const visitIfPresent = (folder: string, prefix: string, depth: number): void => {
    try {
      visit(folder, prefix, depth);
    } catch (thrown) {
      // A sub-folder may go away between the listing and now. One that cannot be read must not look like an empty one.
      if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')) throw thrown;
    }
  };
  visit(root, '', 0);
  return { files, folders };
}

export type StampedText =
  | { readonly kind: 'text'; readonly text: string }
  /** Changed or went away meanwhile. */
  | { readonly kind: 'changed' }
  | { readonly kind: 'unreadable'; readonly reason: string };

/** The text of a file if it still has the stamp. */
export function readStamped(root: string, name: string, expected: FileStamp): StampedText {
  const path = join(root, name);
  try {
    const text = readFileSync(path, 'utf8');
    const stats = statSync(path, { bigint: true });
    return stampOf(stats).stamp === expected.stamp ? { kind: 'text', text } : { kind: 'changed' };
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return { kind: 'changed' };
    return { kind: 'unreadable', reason: toAmbitError(thrown, 'SYSTEM_CALL').message };
  }
}

function stampOf(stats: BigIntStats): FileStamp {
  return {
    stamp: `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`,
    changedMs: Math.max(Number(stats.mtimeNs / 1_000_000n), Number(stats.ctimeNs / 1_000_000n)),
    bytes: Number(stats.size),
  };
}
