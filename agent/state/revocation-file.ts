/**
 * The file with revocation lists (CRL_PATH): read before anything is served, looked at again every other second, so that
 * the exchange of a mounted ConfigMap is seen.
 *
 * A file that is not there revokes nothing (the mount is optional) until it has been there once. One that cannot be read
 * means that nobody is believed; when it was good before, what it said then goes on to count.
 */
import { readFileSync, statSync } from 'node:fs';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { readRevocations } from '../../hbone/revocation.ts';

/** What is revoked as far as is known; `problem`: it is not known at all. */
export interface KnownRevocations {
  readonly keys: readonly string[];
  readonly problem: string | undefined;
}

export const LOOK_MS = 2000;

const log = logger('revocation');

export class RevocationFile {
  readonly #path: string;
  readonly #changed: (known: KnownRevocations) => void;
  readonly #timer: NodeJS.Timeout;
  #known: KnownRevocations = { keys: [], problem: undefined };
  /** Whether the file has ever been good. */
  #good = false;
  #mark = '';
  #told = '';

  /** Tells what is known now before this returns, and every change later. */
  constructor(path: string, changed: (known: KnownRevocations) => void, lookMs = LOOK_MS) {
    this.#path = path;
    this.#changed = changed;
    this.#look(true);
    this.#timer = setInterval(() => this.#look(false), lookMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(first: boolean): void {
    const before = this.#known;
    this.#read();
    if (first || this.#known !== before) this.#changed(this.#known);
  }

  #read(): void {
    try {
      const { mtimeMs, ino, size } = statSync(this.#path);
      const mark = `${mtimeMs} ${ino} ${size}`;
      if (mark === this.#mark) return;
      const keys = readRevocations(readFileSync(this.#path));
      this.#mark = mark;
      this.#good = true;
      this.#known = { keys, problem: undefined };
      this.#told = '';
      log.info({ path: this.#path, revoked: keys.length }, 'revocation lists read');
    } catch (thrown) {
      const missing = thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT';
      const reason = missing ? 'there is no such file' : toAmbitError(thrown, 'DECODE').message;
      if (!missing && !this.#good && this.#known.problem !== reason) this.#known = { keys: [], problem: reason };
      if (reason === this.#told) return;
      this.#told = reason;
      const consequence = this.#consequence(missing);
      log[missing && !this.#good ? 'warn' : 'error'](
        { path: this.#path, reason, consequence },
        'no revocation lists read',
      );
    }
  }

  #consequence(missing: boolean): string {
    if (this.#good) return 'what it said before goes on to count';
    return missing ? 'nothing is revoked' : 'no peer is believed';
  }
}
