/**
 * The folder `<run dir>/pods`: one JSON file per enrolled pod, named by UID, replaced atomically (written beside, then renamed).
 * There is no fsync: what a power failure could lose describes namespaces that the failure ends as well.
 *
 * A file that cannot be read as a pod is renamed to `<name>.corrupt` (the last one of a name is kept) and reported;
 * it never stops the others.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { decodeStoredPod, isSafeUid, type StoredPod } from './stored-pod.ts';

const FOLDER = 'pods';
const SUFFIX = '.json';
/** Far above what a pod with the most overrides needs. */
const MAX_FILE_BYTES = 256 * 1024;

export interface CorruptFile {
  readonly file: string;
  readonly error: AmbitError;
}

export interface StoreContents {
  readonly pods: readonly StoredPod[];
  readonly corrupt: readonly CorruptFile[];
}

export class PodStore {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Creates the folder when it is missing, readable by the agent alone. */
  static async open(runDirectory: string): Promise<PodStore> {
    const folder = join(runDirectory, FOLDER);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return new PodStore(folder);
  }

  /** Everything that was saved and not removed. Leftovers of an interrupted save are deleted. */
  async load(): Promise<StoreContents> {
    const pods: StoredPod[] = [];
    const corrupt: CorruptFile[] = [];
    for (const name of (await readdir(this.#folder)).sort()) {
      const file = join(this.#folder, name);
      if (name.endsWith('.tmp')) await rm(file, { force: true });
      if (!name.endsWith(SUFFIX)) continue;
      try {
        pods.push(await this.#read(file, name));
      } catch (thrown) {
        await rename(file, `${file}.corrupt`);
        corrupt.push({ file: `${file}.corrupt`, error: toAmbitError(thrown, 'DECODE') });
      }
    }
    return { pods, corrupt };
  }

  async save(pod: StoredPod): Promise<void> {
    const file = this.#fileOf(pod.pod.uid);
    await writeFile(`${file}.tmp`, `${JSON.stringify(pod, undefined, 2)}\n`, { mode: 0o600 });
    await rename(`${file}.tmp`, file);
  }

  /** Forgets a pod; unknown ones are no error. */
  async remove(uid: string): Promise<void> {
    await rm(this.#fileOf(uid), { force: true });
  }

  async #read(file: string, name: string): Promise<StoredPod> {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) throw new AmbitError('DECODE', `larger than ${MAX_FILE_BYTES} bytes`);
    const stored = decodeStoredPod(JSON.parse(await readFile(file, 'utf8')));
    if (`${stored.pod.uid}${SUFFIX}` !== name) throw new AmbitError('DECODE', 'the file name is not the UID inside');
    return stored;
  }

  #fileOf(uid: string): string {
    if (!isSafeUid(uid)) throw new AmbitError('USAGE', 'a UID that cannot be a file name');
    return join(this.#folder, `${uid}${SUFFIX}`);
  }
}
