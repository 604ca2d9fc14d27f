/** docs/CONFORMANCE.md stays true: files exist and say what is quoted, and every name has its row. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../support/source-files.ts';

const page = readFileSync(join(ROOT, 'docs/CONFORMANCE.md'), 'utf8');
const ANSWER = /^(Does not apply|Otherwise|Not done): .{15,}/;
const PROOF = /^`(test\/[a-z0-9/-]+\.test\.ts)`: "(.+)"$/;

interface Row {
  readonly name: string;
  readonly parts: readonly string[];
}

interface Section {
  readonly title: string;
  readonly names: readonly string[];
  readonly rows: readonly Row[];
}

function readSections(): Section[] {
  return page
    .split(/^## /m)
    .slice(1)
    .map((text) => {
      const [title = ''] = text.split('\n');
      const names = /^Names: (.+)$/m.exec(text)?.[1]?.split(' · ') ?? [];
      const rows = [...text.matchAll(/^\| (.+?) \| (.+) \|$/gm)]
        .map(([, name = '', cell = '']) => ({ name, parts: cell.split('<br>') }))
        .filter(({ name }) => name !== 'name');
      return { title, names, rows };
    });
}

const sections = readSections();

test('every name of a list has exactly one row, and no row has another name', () => {
  assert.ok(sections.length > 20);
  for (const { title, names, rows } of sections) {
    assert.ok(names.length > 0, title);
    assert.deepEqual(
      rows.map(({ name }) => name),
      names,
      title,
    );
    assert.equal(new Set(names).size, names.length, title);
  }
});

test('every row is a test or an answer', () => {
  const loose = sections.flatMap(({ title, rows }) =>
    rows.flatMap(({ name, parts }) =>
      parts.filter((part) => !PROOF.test(part) && !ANSWER.test(part)).map((part) => `${title}, ${name}: ${part}`),
    ),
  );
  assert.deepEqual(loose, []);
});

test('every file that is named exists and says the words that are quoted', () => {
  const texts = new Map<string, string>();
  const textOf = (file: string): string => {
    const path = join(ROOT, file);
    const text = texts.get(file) ?? (existsSync(path) ? readFileSync(path, 'utf8').replaceAll("\\'", "'") : '');
    texts.set(file, text);
    return text;
  };
  const wrong = sections.flatMap(({ rows }) =>
    rows.flatMap(({ name, parts }) =>
      parts.flatMap((part) => {
        const [, file = '', words = ''] = PROOF.exec(part) ?? [];
        return file === '' || textOf(file).includes(words) ? [] : [`${name}: ${file} does not say "${words}"`];
      }),
    ),
  );
  assert.deepEqual(wrong, []);
  assert.ok(texts.size > 40);
});

test('files named outside of the tables exist', () => {
  const [introduction = ''] = page.split(/^## /m);
  for (const [, file = ''] of introduction.matchAll(/`(test\/[^`]+)`/g)) assert.ok(existsSync(join(ROOT, file)), file);
});
