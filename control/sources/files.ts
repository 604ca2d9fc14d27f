/**
 * The file source: a watched folder of Kubernetes YAML.
 *
 * Notifications only say "look again": every look lists the folder and compares. A changed file is read once it has
 * been still for `quietMs`, so that a file being written is not read half; what a file no longer holds, and a file that
 * is no longer there, is removed after `settleMs`, so that an editor that truncates or replaces a file does not take
 * objects out of the mesh for a moment. A slow look every `rescanMs` covers file systems that do not notify.
 */
import { type FSWatcher, watch } from 'node:fs';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { FileState } from './file-state.ts';
import { type FileStamp, type FolderListing, listFolder, MAX_FILE_BYTES, readStamped } from './folder-scan.ts';
import { KeptTexts } from './kept-texts.ts';
import type { Source, SourceProblem, SourceSink } from './source.ts';

export interface FileSourceTimes {
  readonly quietMs: number;
  readonly settleMs: number;
  readonly rescanMs: number;
}

export const FILE_SOURCE_TIMES: FileSourceTimes = { quietMs: 40, settleMs: 300, rescanMs: 2000 };

const log = logger('files');

export class FileSource implements Source {
  readonly #folder: string;
  readonly #times: FileSourceTimes;
  readonly #state = new FileState();
  readonly #kept: KeptTexts | undefined;
  /** Stamp of the text that was read last, by file. */
  readonly #read = new Map<string, string>();
  /** Why a file cannot be read, by file. */
  readonly #unreadable = new Map<string, string>();
  /** When a file was first missed. */
  readonly #missing = new Map<string, number>();
  readonly #watchers = new Map<string, FSWatcher>();
  #sink: SourceSink | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = 0;
  #synced = false;
  #lastProblems = '';
  #unreadableFolder = false;

  /** `keptFolder`: where the last good text of each file outlives the process; absent: nowhere. */
  constructor(folder: string, times = FILE_SOURCE_TIMES, keptFolder?: string) {
    this.#folder = folder;
    this.#times = times;
    this.#kept = keptFolder === undefined ? undefined : new KeptTexts(keptFolder);
  }

  async start(sink: SourceSink): Promise<void> {
    this.#sink = sink;
    try {
      listFolder(this.#folder);
    } catch (thrown) {
      const reason = toAmbitError(thrown, 'CONFIGURATION').message;
      throw new AmbitError('CONFIGURATION', `the configuration folder cannot be read: ${reason}`, { cause: thrown });
    }
    this.#look();
  }

  waitsFor(): string[] {
    if (this.#synced) return [];
    const files = Array.from(this.#unreadable, ([name, reason]) => `${name}: ${reason}`);
    return this.#unreadableFolder ? [`${this.#folder} cannot be read`, ...files] : files;
  }

  async close(): Promise<void> {
    this.#sink = undefined;
    clearTimeout(this.#timer);
    this.#closeWatchers();
  }

  #look(): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    const now = Date.now();
    let nextMs = now + this.#times.rescanMs;
    const listing = this.#list();
    if (listing !== undefined) {
      // What happened in a folder between its listing and its watch shows in the next look.
      if (this.#watchFolders(listing.folders)) nextMs = now + NOTIFICATION_DELAY_MS;
      for (const [name, stamp] of listing.files) nextMs = Math.min(nextMs, this.#lookAt(name, stamp, now));
      for (const name of [...this.#state.names]) {
        if (!listing.files.has(name)) nextMs = Math.min(nextMs, this.#missed(name, now));
      }
    }
    const change = this.#state.takeChanges();
    if (change.upserted.length > 0 || change.removed.length > 0) sink.changed(change);
    this.#tellProblems(sink);
    if (!this.#synced && this.#isComplete(listing)) {
      this.#synced = true;
      sink.synced();
    }
    this.#lookAgainAt(nextMs);
  }

  /** Reads the file when it is due. Returns when to look again. */
  #lookAt(name: string, stamp: FileStamp, now: number): number {
    this.#missing.delete(name);
    // A time in the future (another machine's clock) must not keep a file from being read for long.
    const changedMs = Math.min(stamp.changedMs, now);
    const settlesMs = changedMs + this.#times.settleMs;
    if (this.#read.get(name) !== stamp.stamp) {
      const quietMs = changedMs + this.#times.quietMs;
      if (now < quietMs) return quietMs;
      const outcome = this.#readFile(name, stamp);
      // Changed again while it was read: it is not still yet.
      if (outcome === 'changed') return now + this.#times.quietMs;
      // Its objects stay as they are until it can be read; every rescan tries.
      if (outcome === 'unreadable') return Number.POSITIVE_INFINITY;
    }
    if (!this.#state.isUnsettled(name)) return Number.POSITIVE_INFINITY;
    if (now < settlesMs) return settlesMs;
    this.#state.settle(name);
    return Number.POSITIVE_INFINITY;
  }

  #readFile(name: string, stamp: FileStamp): 'read' | 'changed' | 'unreadable' {
    if (stamp.bytes > MAX_FILE_BYTES) {
      this.#state.unreadable(name, `the file is larger than ${MAX_FILE_BYTES} bytes`);
      this.#read.set(name, stamp.stamp);
      return 'read';
    }
    const found = readStamped(this.#folder, name, stamp);
    if (found.kind === 'unreadable') {
      this.#state.unreadable(name, `the file cannot be read: ${found.reason}`);
      this.#unreadable.set(name, found.reason);
    }
    if (found.kind !== 'text') return found.kind;
    this.#unreadable.delete(name);
    this.#take(name, found.text);
    this.#read.set(name, stamp.stamp);
    return 'read';
  }

  #take(name: string, text: string): void {
    const isNew = !this.#read.has(name);
    this.#state.read(name, text);
    if (this.#state.isSound(name)) this.#kept?.keep(name, text);
    const kept = isNew && !this.#state.isSound(name) ? this.#kept?.find(name) : undefined;
    if (kept === undefined) return;
    log.warn({ file: name }, 'the file holds mistakes: what cannot be read of it is taken from its last good text');
    this.#state.read(name, kept);
    this.#state.read(name, text);
  }

  #missed(name: string, now: number): number {
    const since = this.#missing.get(name) ?? now;
    this.#missing.set(name, since);
    const goneMs = since + this.#times.settleMs;
    if (now < goneMs) return goneMs;
    this.#missing.delete(name);
    this.#read.delete(name);
    this.#unreadable.delete(name);
    this.#kept?.forget(name);
    this.#state.remove(name);
    return Number.POSITIVE_INFINITY;
  }

  #list(): FolderListing | undefined {
    try {
      const listing = listFolder(this.#folder);
      if (this.#unreadableFolder) log.info({ folder: this.#folder }, 'the configuration folder can be read again');
      this.#unreadableFolder = false;
      return listing;
    } catch (thrown) {
      // The folder itself is gone or unreadable: keep everything, never take it for an empty one.
      const reason = toAmbitError(thrown, 'CONFIGURATION').message;
      if (!this.#unreadableFolder)
        log.error({ folder: this.#folder, reason }, 'the configuration folder cannot be read');
      this.#unreadableFolder = true;
      // Watches of a folder that went away stay silent when another takes its place.
      this.#closeWatchers();
      return undefined;
    }
  }

  #isComplete(listing: FolderListing | undefined): boolean {
    if (listing === undefined) return false;
    for (const name of listing.files.keys()) if (!this.#read.has(name)) return false;
    return true;
  }

  #tellProblems(sink: SourceSink): void {
    const problems = this.#state.problems();
    const text = JSON.stringify(problems, (_key, value: unknown) => (value instanceof Map ? [...value] : value));
    if (text === this.#lastProblems) return;
    this.#lastProblems = text;
    sink.problems(problems);
  }

  /** True when a watch was added. */
  #watchFolders(folders: readonly string[]): boolean {
    let added = false;
    for (const [folder, watcher] of this.#watchers) {
      if (folders.includes(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of folders.slice(0, MAX_WATCHED_FOLDERS)) {
      if (this.#watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, () => this.#lookAgainAt(Date.now() + NOTIFICATION_DELAY_MS));
        watcher.on('error', () => this.#forgetWatcher(folder, watcher));
        this.#watchers.set(folder, watcher);
        added = true;
      } catch (thrown) {
        log.warn({ folder, reason: toAmbitError(thrown, 'SYSTEM_CALL').message }, 'folder not watched, only rescanned');
      }
    }
    return added;
  }

  #closeWatchers(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #forgetWatcher(folder: string, watcher: FSWatcher): void {
    watcher.close();
    if (this.#watchers.get(folder) === watcher) this.#watchers.delete(folder);
  }

  /** One timer: the earliest wish counts. */
  #lookAgainAt(dueMs: number): void {
    if (this.#sink === undefined) return;
    const now = Date.now();
    if (this.#timer !== undefined && this.#timerDueMs > now && this.#timerDueMs <= dueMs) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#look();
      },
      Math.max(1, dueMs - now),
    );
  }
}

/** Folders beyond this number are only rescanned. */
const MAX_WATCHED_FOLDERS = 256;
/** Notifications come in bursts. */
const NOTIFICATION_DELAY_MS = 10;

/** One line per problem that was not there before. */
export function logProblems(current: readonly SourceProblem[], known: ReadonlySet<string>): Set<string> {
  const seen = new Set<string>();
  for (const problem of current) {
    const text = JSON.stringify(problem);
    seen.add(text);
    if (known.has(text)) continue;
    const { where, line, object, reason } = problem;
    if (problem.severity === 'error') log.warn({ file: where, line, object, reason }, 'invalid configuration');
    else log.info({ file: where, line, reason }, 'configuration not used');
  }
  return seen;
}
