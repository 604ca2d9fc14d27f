/**
 * The shape of the repository, held by tests: who may import whom (docs/ARCHITECTURE.md, "Folders and who may import
 * whom"), which folders are pure, where pointers live, and how long a file may get.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { blankComments, importsOf, readSources, type SourceFile } from '../support/source-files.ts';

/** For each top folder, the top folders its files may import besides their own. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  api: [],
  reactor: ['core'],
  hbone: ['core', 'reactor'],
  kube: ['core'],
  'cni-plugin': ['core'],
  agent: ['core', 'api', 'kube', 'reactor', 'hbone'],
  control: ['core', 'api', 'kube'],
  cli: ['core', 'api', 'kube', 'reactor', 'hbone', 'agent', 'control', 'cni-plugin', 'sandbox'],
  sandbox: ['core', 'api', 'kube', 'reactor', 'hbone', 'agent', 'control', 'cni-plugin', 'cli'],
  bench: ['core', 'api', 'kube', 'reactor', 'hbone', 'agent', 'control', 'test'],
  scripts: ['core', 'kube', 'reactor', 'hbone', 'agent', 'control', 'cni-plugin', 'cli', 'bench', 'sandbox'],
  test: [
    'core',
    'api',
    'kube',
    'reactor',
    'hbone',
    'agent',
    'control',
    'cni-plugin',
    'cli',
    'sandbox',
    'bench',
    'scripts',
  ],
};

/** Folders whose code decides and does nothing else. */
const PURE_FOLDERS: readonly string[] = [
  'agent/route/',
  'control/policy/',
  'control/discovery/',
  'control/validation/',
];
/** Modules of Node that neither read the world nor write to it. */
const PURE_MODULES: ReadonlySet<string> = new Set(['node:crypto', 'node:util', 'node:assert']);
/** What pure code must not name: clocks, timers, chance, output, the process. Any of them comes in as an argument. */
const IMPURE_NAMES =
  /\b(Date\.now|new Date\(\)|performance\.|setTimeout|setInterval|setImmediate|queueMicrotask|Math\.random|console\.|process\.|fetch\()/;

/** Lines of a source, and of a test with its table of cases. */
const LONGEST_FILE = 400;
const LONGEST_TEST = 600;
/** Longer files, each with the reason why it stays one. */
const LONG_FILES: Readonly<Record<string, string>> = {
  'reactor/sys/nghttp2.ts': 'every call into the engine, so that its lifetime rules are seen together',
  'reactor/tls/connection.ts': 'one TLS connection: handshake, both directions and closing share their state',
};

const sources = readSources();

describe('imports', () => {
  test('every top folder with sources has a row in the table', () => {
    const folders = new Set(sources.map(topFolder));
    assert.deepEqual(
      [...folders].filter((folder) => MAY_IMPORT[folder] === undefined),
      [],
    );
  });

  test('imports point downwards only, and deployables never import each other', () => {
    const wrong = edges().filter(({ from, to }) => {
      const [source, target] = [topFolder(from), to.split('/')[0] ?? ''];
      return source !== target && !MAY_IMPORT[source]?.includes(target);
    });
    assert.deepEqual(wrong.map(describeEdge), []);
  });

  test('the system call layer is imported by the reactor only, and by tests', () => {
    const allowed = /^(reactor|test|scripts|bench)\//;
    const wrong = edges().filter(({ from, to }) => to.startsWith('reactor/sys/') && !allowed.test(from.path));
    assert.deepEqual(wrong.map(describeEdge), []);
  });

  test('koffi is imported in reactor/sys only', () => {
    const users = sources.filter((source) => source.imports.some(({ specifier }) => specifier === 'koffi'));
    assert.deepEqual(
      users.map(({ path }) => path).filter((path) => !path.startsWith('reactor/sys/')),
      [],
    );
  });

  test('relative imports name a file with its extension', () => {
    const wrong = edges().filter(({ to }) => !/\.(ts|js|json)$/.test(to));
    assert.deepEqual(wrong.map(describeEdge), []);
  });

  test('the checks above see imports of every form, and not those in comments', () => {
    const text = [
      "import a from './a.ts';",
      "import './b.ts';",
      "export * from './c.ts';",
      "// from './no.ts'",
      "const d = await import('./d.ts');",
    ].join('\n');
    const found = importsOf('core/x.ts', blankComments(text)).map(({ path }) => path);
    assert.deepEqual(found, ['core/a.ts', 'core/b.ts', 'core/c.ts', 'core/d.ts']);
  });
});

describe('pure folders', () => {
  const pure = sources.filter(({ path }) => PURE_FOLDERS.some((folder) => path.startsWith(folder)));

  test('exist', () => {
    const empty = PURE_FOLDERS.filter((folder) => !pure.some(({ path }) => path.startsWith(folder)));
    assert.deepEqual(empty, []);
  });

  test('import no module that does something, and no logger', () => {
    const wrong = pure.flatMap((source) =>
      source.imports
        .filter(({ specifier, path }) => {
          if (path !== undefined) return path === 'core/log.ts' || /^(reactor|hbone)\//.test(path);
          return specifier.startsWith('node:') && !PURE_MODULES.has(specifier);
        })
        .map(({ specifier }) => `${source.path} imports ${specifier}`),
    );
    assert.deepEqual(wrong, []);
  });

  test('name no clock, timer, random source or output', () => {
    const wrong = pure.flatMap((source) =>
      source.code.split('\n').flatMap((line, index) => {
        const match = IMPURE_NAMES.exec(line);
        return match === null ? [] : [`${source.path}:${index + 1} ${match[0]}`];
      }),
    );
    assert.deepEqual(wrong, []);
  });
});

describe('files', () => {
  test(`have at most ${LONGEST_FILE} lines (tests ${LONGEST_TEST}), unless listed with a reason`, () => {
    const long = sources.filter(({ text, path }) => lineCount(text) > longest(path) && LONG_FILES[path] === undefined);
    assert.deepEqual(
      long.map(({ path, text }) => `${path}: ${lineCount(text)} lines`),
      [],
    );
  });

  test('listed as long are still long', () => {
    const lengths = new Map(sources.map(({ path, text }) => [path, lineCount(text)]));
    const stale = Object.keys(LONG_FILES).filter((path) => (lengths.get(path) ?? 0) <= longest(path));
    assert.deepEqual(stale, []);
  });

  test('begin with a comment that says what they are', () => {
    const bare = sources.filter(
      ({ path, text }) => !/^(#![^\n]*\n)?\s*(\/\*\*|\/\/)/.test(text) && !/(\.d|\.test)\.ts$/.test(path),
    );
    assert.deepEqual(
      bare.map(({ path }) => path),
      [],
    );
  });
});

interface Edge {
  readonly from: SourceFile;
  readonly to: string;
}

function edges(): Edge[] {
  return sources.flatMap((from) =>
    from.imports.flatMap(({ path }) => (path === undefined ? [] : [{ from, to: path }])),
  );
}

function topFolder(source: SourceFile): string {
  return source.path.split('/')[0] ?? '';
}

function describeEdge({ from, to }: Edge): string {
  return `${from.path} imports ${to}`;
}

function longest(path: string): number {
  return path.endsWith('.test.ts') ? LONGEST_TEST : LONGEST_FILE;
}

function lineCount(text: string): number {
  return text.split('\n').length - 1;
}
