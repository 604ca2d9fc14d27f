import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { generatePages } from '../../scripts/generate-docs.ts';
import { ROOT } from '../support/source-files.ts';

const pages = await generatePages();

for (const [path, expected] of pages) {
  test(`${path} says what the code says (else run: node scripts/generate-docs.ts)`, () => {
    const found = readFileSync(join(ROOT, path), 'utf8');
    assert.equal(found, expected);
  });
}

test('the generated pages have a row for every entry of their tables', () => {
  for (const [path, text] of pages) {
    const rows = text.split('\n').filter((line) => line.startsWith('| '));
    assert.ok(rows.length > 20, path);
    for (const row of rows) assert.ok(!row.includes('undefined') && !row.includes('NaN'), row);
  }
});

test('docs/DEPENDENCIES.md has exactly one row for each dependency of package.json, with its version', () => {
  const manifest: Record<string, Record<string, string> | undefined> = JSON.parse(
    readFileSync(join(ROOT, 'package.json'), 'utf8'),
  );
  const wanted = ['dependencies', 'optionalDependencies', 'devDependencies'].flatMap((kind) =>
    Object.entries(manifest[kind] ?? {}).map(([name, version]) => `${name} ${version}`),
  );
  const text = readFileSync(join(ROOT, 'docs/DEPENDENCIES.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `([^`]+)` \| ([0-9][^ ]*) \| (.+) \|$/gm)];
  const listed = rows.map(([, name, version]) => `${name} ${version}`);
  assert.deepEqual(listed.toSorted(), wanted.toSorted());
  for (const [row, , , reason] of rows) assert.ok((reason ?? '').length > 15, `a reason is missing: ${row}`);
});

test('links between the pages lead somewhere', () => {
  const documents = ['README.md', ...globSync('{docs,bench,test}/**/*.md', { cwd: ROOT })];
  const dead = documents.flatMap((document) => {
    const text = readFileSync(join(ROOT, document), 'utf8');
    return [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map(([, target]) => target ?? '')
      .filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(ROOT, dirname(document), target)))
      .map((target) => `${document}: ${target}`);
  });
  assert.deepEqual(dead, []);
});
