/**
 * A pod directory fed by Kubernetes YAML in a watched folder (setting AMBIT_POD_SOURCE). Files directly in the folder
 * that end in .yaml or .yml are read; of a file with a mistake the last good objects stay in use, as the control plane does.
 */
import { type FSWatcher, watch } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { DirectoryChange, NamespaceFacts, PodDirectory, PodFacts } from './pod-directory.ts';
import { type PodObjects, readPodObjects } from './pod-objects.ts';

const log = logger('enrol');

/** Editors write a file in several steps: one reading serves all events of this time. */
const SETTLE_MS = 30;
/** Where the machine has no watch left to give (fs.inotify.max_user_instances), the folder is read this often. */
const RESCAN_MS = 1_000;

export class FilePodDirectory implements PodDirectory {
  readonly #folder: string;
  readonly #watcher: FSWatcher | undefined;
  readonly #rescan: NodeJS.Timeout | undefined;
  readonly #listeners = new Set<(change: DirectoryChange) => void>();
  /** A folder is read as a whole before it is opened. */
  readonly synced = true;
  #files = new Map<string, PodObjects>();
  #pods = new Map<string, PodFacts>();
  #namespaces = new Map<string, NamespaceFacts>();
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();

  private constructor(folder: string) {
    this.#folder = folder;
    this.#watcher = openWatcher(folder, () => this.#schedule());
    if (this.#watcher === undefined) this.#rescan = setInterval(() => this.#schedule(), RESCAN_MS).unref();
  }

  /** Resolves after the first reading. Throws `CONFIGURATION` when the folder cannot be read. */
  static async open(folder: string): Promise<FilePodDirectory> {
    try {
      const directory = new FilePodDirectory(folder);
      await directory.#read();
      return directory;
    } catch (cause) {
      throw new AmbitError('CONFIGURATION', `the pod folder ${folder} cannot be read`, { cause });
    }
  }

  findPod(namespace: string, name: string): PodFacts | undefined {
    return this.#pods.get(`${namespace}/${name}`);
  }

  findNamespace(name: string): NamespaceFacts | undefined {
    return this.#namespaces.get(name);
  }

  pods(): Iterable<PodFacts> {
    return this.#pods.values();
  }

  onChange(listener: (change: DirectoryChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#watcher?.close();
    clearInterval(this.#rescan);
    clearTimeout(this.#timer);
    this.#listeners.clear();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#reading = this.#reading
        .then(() => this.#read())
        .catch((error: Error) =>
          log.error({ folder: this.#folder, reason: error.message }, 'the pod folder cannot be read'),
        );
    }, SETTLE_MS);
  }

  async #read(): Promise<void> {
    const names = (await readdir(this.#folder)).filter((name) => /\.ya?ml$/.test(name)).sort();
    const files = new Map<string, PodObjects>();
    for (const name of names) {
      const objects = await this.#readFile(name);
      if (objects !== undefined) files.set(name, objects);
    }
    this.#files = files;
    this.#pods = new Map(
      [...files.values()].flatMap(({ pods }) => pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod])),
    );
    this.#namespaces = new Map(
      [...files.values()].flatMap(({ namespaces }) => namespaces.map((each) => [each.name, each])),
    );
    for (const listener of [...this.#listeners]) listener({ kind: 'all' });
  }

  async #readFile(name: string): Promise<PodObjects | undefined> {
    const objects = await readFile(join(this.#folder, name), 'utf8').then(readPodObjects, () => undefined);
    if (objects === undefined || objects.problems.length === 0) return objects;
    for (const { line, reason } of objects.problems) log.warn({ file: name, line, reason }, 'an object is not used');
    const former = this.#files.get(name);
    return former === undefined ? objects : withFormer(objects, former);
  }
}

/** Undefined when the folder cannot be watched; whether it can be read shows when it is. */
function openWatcher(folder: string, onChange: () => void): FSWatcher | undefined {
  try {
    return watch(folder, onChange).on('error', (error) =>
      log.error({ folder, reason: error.message }, 'the pod folder is no longer watched'),
    );
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    log.warn({ folder, reason }, 'the pod folder cannot be watched and is read again and again');
    return undefined;
  }
}

/** What the file says now, and of the former state the objects it no longer states well. */
function withFormer(now: PodObjects, former: PodObjects): PodObjects {
  const pods = new Set(now.pods.map((pod) => `${pod.namespace}/${pod.name}`));
  const namespaces = new Set(now.namespaces.map(({ name }) => name));
  return {
    pods: [...former.pods.filter((pod) => !pods.has(`${pod.namespace}/${pod.name}`)), ...now.pods],
    namespaces: [...former.namespaces.filter(({ name }) => !namespaces.has(name)), ...now.namespaces],
    problems: now.problems,
  };
}
