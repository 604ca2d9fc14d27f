/** The pages of this process that are copies of files: which there are, and giving them back to the kernel. */
import { readFileSync } from 'node:fs';
import { native } from './ffi.ts';

const madvise = native<(address: number, length: number, advice: number) => number>(
  'int madvise(uintptr_t, size_t, int)',
);

const MADV_DONTNEED = 4;

interface Mapping {
  readonly start: number;
  readonly end: number;
}

/**
 * Takes the code and constants of programs and libraries out of the resident set; what is still needed comes back from
 * the page cache at its next use. Only mappings that are not writable and have no private page are touched, so nothing can
 * be lost. Returns the bytes of address space concerned; 0 where the kernel does not tell.
 */
export function dropFilePages(): number {
  let dropped = 0;
  for (const { start, end } of unchangedFileMappings()) {
    if (madvise(start, end - start, MADV_DONTNEED) === 0) dropped += end - start;
  }
  return dropped;
}

function unchangedFileMappings(): Mapping[] {
  let text: string;
  try {
    text = readFileSync('/proc/self/smaps', 'latin1');
  } catch {
    return [];
  }
  const found: Mapping[] = [];
  let current: Mapping | undefined;
  for (const line of text.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)\s+(\/.*)?$/.exec(line);
    if (head !== null) {
      const [, start = '', end = '', permissions = '', inode, path] = head;
      const eligible = (permissions === 'r-xp' || permissions === 'r--p') && inode !== '0' && path !== undefined;
      current = eligible ? { start: Number.parseInt(start, 16), end: Number.parseInt(end, 16) } : undefined;
    } else if (current !== undefined && /^Anonymous: +0 kB$/.test(line)) {
      found.push(current);
      current = undefined;
    }
  }
  return found;
}
