/** Small files that must never be seen half written or lost: read if there, replace in one step. */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { AmbitError, toAmbitError } from '../core/errors.ts';

/** The text of a file, or undefined when it does not exist. Throws CONFIGURATION for everything else. */
export function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
    throw new AmbitError('CONFIGURATION', `cannot read ${path}: ${toAmbitError(thrown, 'CONFIGURATION').message}`);
  }
}

/**
 * Writes beside the file, to the disk, and renames: a reader sees the old or the new text, also after a crash. The file
 * has `mode` from its first byte on. Folders are made with mode 0700.
 */
export function writeFileAtomically(path: string, text: string, mode: number): void {
  const temporary = `${path}.tmp.${process.pid}`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    rmSync(temporary, { force: true });
    const file = openSync(temporary, 'wx', mode);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (thrown) {
    rmSync(temporary, { force: true });
    throw new AmbitError('CONFIGURATION', `cannot write ${path}: ${toAmbitError(thrown, 'CONFIGURATION').message}`);
  }
}
