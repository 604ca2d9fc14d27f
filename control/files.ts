/** Small files that must never be seen half written or lost: read if there, replace in one step. */
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
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
  writeBeside(path, text, mode, (temporary) => renameSync(temporary, path));
}

/** As `writeFileAtomically`, but never over a file that is there already. False when there is one. */
export function createFileAtomically(path: string, text: string, mode: number): boolean {
  let created = true;
  writeBeside(path, text, mode, (temporary) => {
    try {
      linkSync(temporary, path);
    } catch (thrown) {
      if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'EEXIST')) throw thrown;
      created = false;
    }
    rmSync(temporary);
  });
  return created;
}

function writeBeside(path: string, text: string, mode: number, putInPlace: (temporary: string) => void): void {
  const temporary = `${path}.tmp.${process.pid}`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    rmSync(temporary, { force: true });
    const file = openSync(temporary, 'wx', mode);
    try {
      // Loops where one system call writes less, as it does on a disk that is filling up.
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    putInPlace(temporary);
  } catch (thrown) {
    rmSync(temporary, { force: true });
    throw new AmbitError('CONFIGURATION', `cannot write ${path}: ${toAmbitError(thrown, 'CONFIGURATION').message}`);
  }
}
