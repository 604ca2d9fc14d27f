/** A small file that others replace now and then: its text is read again when the file changed. */
import { readFileSync, statSync } from 'node:fs';
import { AmbitError, toAmbitError } from '../core/errors.ts';

const MAX_BYTES = 1024 * 1024;
/** How old an answer may be. */
const CHECK_INTERVAL_MS = 1000;

export class FileContent {
  readonly #path: string;
  #text: string | undefined;
  #stamp = '';
  #checkedMs = Number.NEGATIVE_INFINITY;

  constructor(path: string) {
    this.#path = path;
  }

  /** The text without white space around it. While the file cannot be read the last text counts; throws without one. */
  read(): string {
    const now = performance.now();
    if (this.#text !== undefined && now - this.#checkedMs < CHECK_INTERVAL_MS) return this.#text;
    this.#checkedMs = now;
    try {
      const stats = statSync(this.#path);
      const stamp = `${stats.ino}:${stats.size}:${stats.mtimeMs}:${stats.ctimeMs}`;
      if (this.#text !== undefined && stamp === this.#stamp) return this.#text;
      if (stats.size > MAX_BYTES)
        throw new AmbitError('CONFIGURATION', `${this.#path} is larger than ${MAX_BYTES} bytes`);
      const text = readFileSync(this.#path, 'utf8').trim();
      // A file that is being replaced may be empty for a moment.
      if (text === '') throw new AmbitError('CONFIGURATION', `${this.#path} is empty`);
      this.#text = text;
      this.#stamp = stamp;
    } catch (thrown) {
      if (this.#text !== undefined) return this.#text;
      const { message } = toAmbitError(thrown, 'CONFIGURATION');
      throw new AmbitError('CONFIGURATION', `${this.#path} cannot be used: ${message}`, { cause: thrown });
    }
    return this.#text;
  }

  /** The next `read` looks at the file, however young the last look is. */
  expire(): void {
    this.#checkedMs = Number.NEGATIVE_INFINITY;
    this.#stamp = '';
  }
}
