/**
 * What a set of files means: the objects of all files together, the last good version of each, and the problems.
 * Pure: told the text of files, it answers with change sets.
 *
 * Rules: an object that is in a file but wrong keeps its last good version; a text in which something cannot be
 * attributed keeps every object it had; of an object in two files the one in the alphabetically first file counts.
 * What seems to have gone is removed only when the caller says that the file has settled.
 */
import { sameContent } from '../objects/equality.ts';
import type { MeshObject, ObjectKey } from '../objects/object.ts';
import type { ChangeSet, SourceProblem } from './source.ts';
import { fateOf } from './stand-ins.ts';
import { type ParsedText, parseYamlObjects } from './yaml-objects.ts';

interface FileEntry {
  /** Last good version of what the file holds, plus what it held until it settles. */
  objects: Map<ObjectKey, MeshObject>;
  problems: SourceProblem[];
  /** Objects that the current text no longer has. */
  vanished: Set<ObjectKey>;
}

export class FileState {
  readonly #files = new Map<string, FileEntry>();
  /** What was told last, by object. */
  #announced = new Map<ObjectKey, MeshObject>();

  /** Takes the text of a file over. What the text lacks is kept until `settle`. */
  read(file: string, text: string): void {
    const parsed = parseYamlObjects(text);
    const before = this.#files.get(file)?.objects ?? new Map<ObjectKey, MeshObject>();
    const objects = new Map(before);
    for (const [key, object] of parsed.objects) objects.set(key, object);
    const vanished = new Set<ObjectKey>();
    for (const key of before.keys()) if (!isPresent(key, parsed)) vanished.add(key);
    const problems = parsed.problems.map((problem) => ({ ...problem, where: file, reason: withFate(problem, before) }));
    this.#files.set(file, { objects, problems, vanished });
  }

  /** Notes that a file could not be read; its objects stay. */
  unreadable(file: string, reason: string): void {
    const entry = this.#files.get(file) ?? { objects: new Map(), problems: [], vanished: new Set() };
    entry.problems = [{ severity: 'error', where: file, line: undefined, object: undefined, reason }];
    this.#files.set(file, entry);
  }

  knows(file: string): boolean {
    return this.#files.has(file);
  }

  /** True when everything in the text that was read last is in use. */
  isSound(file: string): boolean {
    return this.#files.get(file)?.problems.every(({ severity }) => severity !== 'error') ?? false;
  }

  /** True when something of the file would be removed by `settle`. */
  isUnsettled(file: string): boolean {
    return (this.#files.get(file)?.vanished.size ?? 0) > 0;
  }

  /** The text is final: what it lacks is gone. */
  settle(file: string): void {
    const entry = this.#files.get(file);
    if (entry === undefined) return;
    for (const key of entry.vanished) entry.objects.delete(key);
    entry.vanished.clear();
  }

  /** The file is gone for good. */
  remove(file: string): void {
    this.#files.delete(file);
  }

  get names(): Iterable<string> {
    return this.#files.keys();
  }

  /** What changed since the last call. Objects are compared by content. */
  takeChanges(): ChangeSet {
    const current = new Map<ObjectKey, MeshObject>();
    for (const file of [...this.#files.keys()].sort()) {
      for (const [key, object] of this.#files.get(file)?.objects ?? []) if (!current.has(key)) current.set(key, object);
    }
    const upserted: MeshObject[] = [];
    for (const [key, object] of current) {
      const known = this.#announced.get(key);
      if (known === undefined || !sameContent(known, object)) upserted.push(object);
    }
    const removed = [...this.#announced.keys()].filter((key) => !current.has(key));
    this.#announced = current;
    return { upserted, removed };
  }

  problems(): SourceProblem[] {
    const owner = new Map<ObjectKey, string>();
    const result: SourceProblem[] = [];
    for (const file of [...this.#files.keys()].sort()) {
      const entry = this.#files.get(file);
      if (entry === undefined) continue;
      result.push(...entry.problems);
      for (const key of entry.objects.keys()) {
        const first = owner.get(key);
        if (first === undefined) owner.set(key, file);
        else {
          const reason = `the object is also in ${first}, which counts`;
          result.push({ severity: 'error', where: file, line: undefined, object: key, reason });
        }
      }
    }
    return result;
  }
}

function isPresent(key: ObjectKey, parsed: ParsedText): boolean {
  return parsed.objects.has(key) || parsed.invalid.has(key) || parsed.incomplete;
}

function withFate(problem: ParsedText['problems'][number], before: ReadonlyMap<ObjectKey, MeshObject>): string {
  if (problem.object === undefined || problem.severity !== 'error') return problem.reason;
  return `${problem.reason} (${fateOf(before.has(problem.object), problem.standIn)})`;
}
