/** YAML and JSON files -> values for the checks, each with where it stands. */
import { globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LineCounter, parseAllDocuments } from 'yaml';
import { type Finding, finding } from '../../control/validation/finding.ts';
import { isRecord } from '../../core/decoder.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';

export interface FileValue {
  readonly value: unknown;
  /** `file:line`, 1-based. */
  readonly where: string;
}

export interface FileContents {
  readonly values: readonly FileValue[];
  /** About what is no YAML. */
  readonly findings: readonly Finding[];
  readonly files: number;
}

/** One file; manifests are smaller, and the API server takes no object beyond 1.5 MiB. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;

/** @param paths files, folders (with all `.yaml`, `.yml` and `.json` below) or `-` for standard input. Throws CONFIGURATION. */
export function readFiles(paths: readonly string[]): FileContents {
  const values: FileValue[] = [];
  const findings: Finding[] = [];
  const files = [...new Set(paths.flatMap(filesOf))];
  for (const file of files) {
    const lines = new LineCounter();
    const options = { lineCounter: lines, prettyErrors: false, logLevel: 'silent' } as const;
    for (const document of parsed(readText(file), options)) {
      const [start = 0] = document.contents?.range ?? [];
      const where = `${file === '-' ? 'stdin' : file}:${lines.linePos(start).line}`;
      const [error] = document.errors;
      try {
        if (error !== undefined) throw new AmbitError('INVALID_OBJECT', error.message);
        values.push(...objectsIn(document.toJS({ maxAliasCount: 100 })).map((value) => ({ value, where })));
      } catch (thrown) {
        const at = error === undefined ? where : `${where.replace(/:\d+$/, '')}:${lines.linePos(error.pos[0]).line}`;
        const { message } = toAmbitError(thrown, 'INVALID_OBJECT');
        const more = { effect: 'nothing of the document is used', fix: 'Correct the YAML.' };
        findings.push(
          finding('AMB0101', { object: `File//${at}` }, `is not YAML: ${message.split('\n', 1)[0] ?? ''}`, more),
        );
      }
    }
  }
  return { values, findings, files: files.length };
}

function parsed(text: string, options: Parameters<typeof parseAllDocuments>[1]) {
  const documents = parseAllDocuments(text, options);
  return Array.isArray(documents) ? documents : [];
}

/** A list holds objects. */
function objectsIn(value: unknown): unknown[] {
  return isRecord(value) && value.kind === 'List' && Array.isArray(value.items) ? value.items : [value];
}

function filesOf(path: string): string[] {
  if (path === '-') return [path];
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new AmbitError('CONFIGURATION', `${path} does not exist`);
  if (!found.isDirectory()) return [path];
  return globSync('**/*.{yaml,yml,json}', { cwd: path })
    .sort()
    .map((file) => join(path, file));
}

function readText(file: string): string {
  try {
    if (file === '-') return readFileSync(0, 'utf8');
    if (statSync(file).size > MAX_FILE_BYTES) throw new AmbitError('CONFIGURATION', `${file} is larger than 64 MiB`);
    return readFileSync(file, 'utf8');
  } catch (thrown) {
    throw toAmbitError(thrown, 'CONFIGURATION');
  }
}
