/**
 * The last text of each file in which everything could be read, kept on disk. A control plane that starts while a file
 * holds a mistake begins with it, so that a restart takes no more out of the mesh than the mistake itself did: without it
 * a DENY with a misspelt word would be forgotten by the next start.
 *
 * Losing a copy is no error: the file then counts as it is.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';

const log = logger('files');

export class KeptTexts {
  readonly #folder: string;

  /** The folder is made, mode 0700. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  find(file: string): string | undefined {
    try {
      return readFileSync(this.#path(file), 'utf8');
    } catch {
      return undefined;
    }
  }

  keep(file: string, text: string): void {
    if (this.find(file) === text) return;
    const path = this.#path(file);
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      writeFileSync(`${path}.tmp`, text, { mode: 0o600 });
      renameSync(`${path}.tmp`, path);
    } catch (thrown) {
      const reason = toAmbitError(thrown, 'SYSTEM_CALL').message;
      log.warn({ file, reason }, 'the good text of a file cannot be kept for the next start');
    }
  }

  forget(file: string): void {
    try {
      rmSync(this.#path(file), { force: true });
    } catch (thrown) {
      log.warn({ file, reason: toAmbitError(thrown, 'SYSTEM_CALL').message }, 'the kept text of a file stays');
    }
  }

  #path(file: string): string {
    return join(this.#folder, `${createHash('sha256').update(file).digest('hex')}.text`);
  }
}
