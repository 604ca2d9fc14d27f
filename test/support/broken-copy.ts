/**
 * A copy of the repository in which one piece is broken on purpose, for tests that ask whether a check notices. Packages are
 * those of the repository; whatever is built is built in the copy.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { ROOT } from './source-files.ts';

const NOT_COPIED: ReadonlySet<string> = new Set(['node_modules', 'dist', '.cache', '.git']);

/** A text that stands exactly once in a file, and what stands there instead. */
export interface Breakage {
  /** Relative to the root of the repository. */
  readonly file: string;
  readonly text: string;
  readonly replacement: string;
}

export class BrokenCopy implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ambit-broken-'));

  /** Throws, with nothing left behind, when the text does not stand in the file exactly once. */
  constructor(breakage: Breakage) {
    try {
      cpSync(ROOT, this.#folder, { recursive: true, filter: (path) => !NOT_COPIED.has(basename(path)) });
      symlinkSync(join(ROOT, 'node_modules'), join(this.#folder, 'node_modules'));
      this.#apply(breakage);
    } catch (thrown) {
      this[Symbol.dispose]();
      throw thrown;
    }
  }

  /** The `ambit` of the copy. */
  get launcher(): string {
    return join(this.#folder, 'cli', 'ambit');
  }

  #apply({ file, text, replacement }: Breakage): void {
    const path = join(this.#folder, file);
    const parts = readFileSync(path, 'utf8').split(text);
    if (parts.length !== 2) throw new Error(`${parts.length - 1} times ${JSON.stringify(text)} in ${file}, not once`);
    writeFileSync(path, parts.join(replacement));
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
