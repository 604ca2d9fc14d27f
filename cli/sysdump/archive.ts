/** Where the files of a sysdump go: into one `.tar.gz` (ustar, POSIX.1-1988), or into a folder. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { createGzip, type Gzip } from 'node:zlib';
import { AmbitError, toAmbitError } from '../../core/errors.ts';

export interface Archive {
  /** Names are relative, with slashes. */
  add(name: string, text: string): Promise<void>;
  close(): Promise<void>;
}

/** Only its owner may read it. Rejects with CONFIGURATION when the place cannot be written. */
export async function openArchive(path: string, nowMs: number): Promise<Archive> {
  try {
    if (!/\.(tar\.gz|tgz)$/.test(path)) {
      await mkdir(path, { recursive: true, mode: 0o700 });
      return folder(path);
    }
    const file = createWriteStream(path, { mode: 0o600, flags: 'wx' });
    await new Promise((resolve, reject) => file.once('open', resolve).once('error', reject));
    return new TarFile(file, nowMs);
  } catch (thrown) {
    throw new AmbitError('CONFIGURATION', `${path}: ${toAmbitError(thrown, 'CONFIGURATION').message}`, {
      cause: thrown,
    });
  }
}

function folder(root: string): Archive {
  return {
    async add(name, text) {
      const path = join(root, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text, { mode: 0o600 });
    },
    async close() {},
  };
}

const BLOCK = 512;

class TarFile implements Archive {
  readonly #gzip: Gzip = createGzip();
  readonly #file: WriteStream;
  readonly #nowMs: number;

  constructor(file: WriteStream, nowMs: number) {
    this.#file = file;
    this.#nowMs = nowMs;
    this.#gzip.pipe(file);
  }

  async add(name: string, text: string): Promise<void> {
    const content = Buffer.from(text);
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
    await this.#write(Buffer.concat([tarHeader(name, content.length, this.#nowMs), content, padding]));
  }

  async close(): Promise<void> {
    await this.#write(Buffer.alloc(2 * BLOCK));
    this.#gzip.end();
    await finished(this.#file);
  }

  #write(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => this.#gzip.write(bytes, (error) => (error ? reject(error) : resolve())));
  }
}

/** Throws USAGE for a name that the format cannot hold (100 bytes behind a folder of 155). */
export function tarHeader(name: string, size: number, nowMs: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  const slash = name.length <= 100 ? -1 : name.indexOf('/', name.length - 101);
  const [prefix, rest] = slash < 0 ? ['', name] : [name.slice(0, slash), name.slice(slash + 1)];
  if (Buffer.byteLength(rest) > 100 || Buffer.byteLength(prefix) > 155)
    throw new AmbitError('USAGE', `the name ${name} is too long for an archive`);
  const octal = (value: number, width: number): string => value.toString(8).padStart(width - 1, '0');
  const fields: readonly (readonly [offset: number, text: string])[] = [
    [0, rest],
    [100, octal(0o600, 8)],
    [108, octal(0, 8)],
    [116, octal(0, 8)],
    [124, octal(size, 12)],
    [136, octal(Math.floor(nowMs / 1000), 12)],
    [148, ' '.repeat(8)],
    [156, '0'],
    [257, 'ustar\u000000'],
    [345, prefix],
  ];
  for (const [offset, text] of fields) header.write(text, offset);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 7)}\u0000 `, 148);
  return header;
}
