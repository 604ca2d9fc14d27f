/**
 * Reads Kubernetes Pod and Namespace objects out of YAML text. Pure. Other kinds are skipped; an object that is not well
 * formed is a problem in words, with its line, and does not hide the others of the file.
 */
import { isMap, LineCounter, parseAllDocuments } from 'yaml';
import { fieldOf } from './object-fields.ts';
import type { NamespaceFacts, PodFacts } from './pod-directory.ts';
import { readNamespaceFacts, readPodFacts } from './pod-facts.ts';

export interface ObjectProblem {
  readonly line: number;
  readonly reason: string;
}

export interface PodObjects {
  readonly pods: readonly PodFacts[];
  readonly namespaces: readonly NamespaceFacts[];
  readonly problems: readonly ObjectProblem[];
}

const MAX_TEXT = 1024 * 1024;

export function readPodObjects(text: string): PodObjects {
  if (text.length > MAX_TEXT)
    return { pods: [], namespaces: [], problems: [{ line: 1, reason: `larger than ${MAX_TEXT} characters` }] };
  const pods: PodFacts[] = [];
  const namespaces: NamespaceFacts[] = [];
  const problems: ObjectProblem[] = [];
  const lines = new LineCounter();
  for (const document of parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, logLevel: 'silent' })) {
    const line = lines.linePos(document.contents?.range?.[0] ?? document.range[0]).line;
    const [error] = document.errors;
    if (error !== undefined) {
      problems.push({ line: lines.linePos(error.pos[0]).line, reason: `not YAML: ${error.message}` });
      continue;
    }
    if (!isMap(document.contents)) continue;
    try {
      const object: unknown = document.toJS({ maxAliasCount: 16 });
      const kind = fieldOf(object, 'kind');
      if (kind === 'Pod') pods.push(readPodFacts(object));
      if (kind === 'Namespace') namespaces.push(readNamespaceFacts(object));
    } catch (thrown) {
      problems.push({ line, reason: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  }
  return { pods, namespaces, problems };
}
