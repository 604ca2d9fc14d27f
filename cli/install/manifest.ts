/** Manifests as text: taken apart into objects, counted, and compared. Pure. */
import { parseAllDocuments, stringify } from 'yaml';
import { isRecord } from '../../core/decoder.ts';

export interface ManifestObject {
  /** `Kind namespace/name`, or `Kind name`. */
  readonly id: string;
  readonly kind: string;
  /** YAML with sorted keys, so that only differences of meaning differ. */
  readonly text: string;
}

export interface ManifestChange {
  readonly id: string;
  readonly what: 'created' | 'changed' | 'removed';
  /** Lines that go (`-`) and come (`+`), with a little of what is around them; empty unless changed. */
  readonly lines: readonly string[];
}

/** Documents that are no objects are left out; Helm writes such for empty templates. */
export function parseManifest(text: string): ManifestObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const value: unknown = document.toJS();
    if (!isRecord(value) || typeof value.kind !== 'string' || !isRecord(value.metadata)) return [];
    const { name, namespace } = value.metadata;
    if (typeof name !== 'string') return [];
    const id = `${value.kind} ${typeof namespace === 'string' ? `${namespace}/` : ''}${name}`;
    return [{ id, kind: value.kind, text: stringify(value, { sortMapEntries: true, lineWidth: 0 }) }];
  });
}

/** `3 CustomResourceDefinition, 1 DaemonSet`, in the order of the alphabet. */
export function countKinds(objects: readonly ManifestObject[]): string {
  const counts = new Map<string, number>();
  for (const { kind } of objects) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ');
}

/** What becomes different, in the order of the new manifest; what is removed comes last. */
export function compareManifests(
  before: readonly ManifestObject[],
  after: readonly ManifestObject[],
): ManifestChange[] {
  const old = new Map(before.map((object) => [object.id, object]));
  const wanted = new Set(after.map(({ id }) => id));
  const changes: ManifestChange[] = [];
  for (const { id, text } of after) {
    const known = old.get(id);
    if (known === undefined) changes.push({ id, what: 'created', lines: [] });
    else if (known.text !== text) changes.push({ id, what: 'changed', lines: compareLines(known.text, text) });
  }
  for (const { id } of before) if (!wanted.has(id)) changes.push({ id, what: 'removed', lines: [] });
  return changes;
}

const CONTEXT_LINES = 2;

/** A line comparison by longest common subsequence. Manifests are short; the table is at most some megabytes. */
export function compareLines(before: string, after: string): string[] {
  const old = before.split('\n');
  const young = after.split('\n');
  const marked = markLines(old, young);
  const shown = new Set<number>();
  marked.forEach(({ sign }, index) => {
    if (sign === ' ') return;
    for (let near = index - CONTEXT_LINES; near <= index + CONTEXT_LINES; near++) shown.add(near);
  });
  return marked.flatMap(({ sign, line }, index) => {
    if (!shown.has(index)) return [];
    const gap = index > 0 && !shown.has(index - 1) ? ['  ...'] : [];
    return [...gap, `${sign} ${line}`];
  });
}

interface MarkedLine {
  readonly sign: ' ' | '-' | '+';
  readonly line: string;
}

function markLines(old: readonly string[], young: readonly string[]): MarkedLine[] {
  const width = young.length + 1;
  const longest = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = young.length - 1; j >= 0; j--) {
      const down = longest[(i + 1) * width + j] ?? 0;
      const right = longest[i * width + j + 1] ?? 0;
      const both = (longest[(i + 1) * width + j + 1] ?? 0) + 1;
      longest[i * width + j] = old[i] === young[j] ? both : Math.max(down, right);
    }
  }
  const marked: MarkedLine[] = [];
  let i = 0;
  let j = 0;
  while (i < old.length || j < young.length) {
    const [oldLine, youngLine] = [old[i], young[j]];
    if (oldLine !== undefined && oldLine === youngLine) {
      marked.push({ sign: ' ', line: oldLine });
      i++;
      j++;
      continue;
    }
    const removing = (longest[(i + 1) * width + j] ?? 0) >= (longest[i * width + j + 1] ?? 0);
    if (oldLine !== undefined && (youngLine === undefined || removing)) {
      marked.push({ sign: '-', line: oldLine });
      i++;
    } else {
      marked.push({ sign: '+', line: youngLine ?? '' });
      j++;
    }
  }
  return marked;
}
