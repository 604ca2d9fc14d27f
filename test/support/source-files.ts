/**
 * The TypeScript sources of the repository as data for tests about their shape: path, text without comments, imports.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export interface SourceFile {
  /** Relative to the root of the repository, with `/`. */
  readonly path: string;
  readonly text: string;
  /** The text with comments and their contents blanked out; line numbers stay. */
  readonly code: string;
  readonly imports: readonly SourceImport[];
}

export interface SourceImport {
  /** As written. */
  readonly specifier: string;
  /** The repository file it names, or undefined for a package or a `node:` module. */
  readonly path: string | undefined;
}

export const ROOT = join(import.meta.dirname, '..', '..');

/** Every source of ours: generated code, packages and build output are not. */
export function readSources(): SourceFile[] {
  const paths = globSync('**/*.ts', {
    cwd: ROOT,
    exclude: (name) => ['node_modules', 'gen', 'dist', '.cache', '.git'].includes(name),
  });
  return paths.sort().map((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8');
    const code = blankComments(text);
    return { path, text, code, imports: importsOf(path, code) };
  });
}

/** Static, dynamic and re-exporting imports, types included: a type import is a dependency too. */
export function importsOf(path: string, code: string): SourceImport[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\1/g;
  return [...code.matchAll(pattern)].map((match) => {
    const specifier = match[2] ?? '';
    return { specifier, path: specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : undefined };
  });
}

/** Comments become blanks. Strings are respected; template literals count as strings as a whole. */
export function blankComments(text: string): string {
  const token = /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replace(token, (match) => (match.startsWith('/') ? match.replace(/[^\n]/g, ' ') : match));
}
