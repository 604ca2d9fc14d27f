/** Texts of files to objects: several documents, lines of mistakes, and what stays when something is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { objectKey } from '../../../control/objects/object.ts';
import { FileState } from '../../../control/sources/file-state.ts';
import { isObjectFile } from '../../../control/sources/folder-scan.ts';
import { formatPath, parseYamlObjects } from '../../../control/sources/yaml-objects.ts';
import { problemsOf } from '../../support/control.ts';

const namespace = (name: string, label = 'x'): string =>
  `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n  labels: {l: "${label}"}\n`;

function changes(state: FileState): { upserted: string[]; removed: string[] } {
  const { upserted, removed } = state.takeChanges();
  return { upserted: upserted.map(objectKey).sort(), removed: [...removed].sort() };
}

test('a file holds several documents, comments and empty documents among them', () => {
  const { objects, problems } = parseYamlObjects(
    `# nothing\n---\n${namespace('a')}---\n# comment\n---\n${namespace('b')}...\n`,
  );
  assert.deepEqual([...objects.keys()], ['Namespace//a', 'Namespace//b']);
  assert.deepEqual(problems, []);
});

test('a List holds objects', () => {
  const items = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } },
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'B' } },
  ];
  const { objects, problems } = parseYamlObjects(
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items }, undefined, 1),
  );
  assert.deepEqual([...objects.keys()], ['Namespace//a']);
  assert.match(problems[0]?.reason ?? '', /metadata\.name must be a name of lower case/);
  assert.equal(problems[0]?.line, 16);
});

test('a mistake is reported with the line of its field', () => {
  const yaml = `${namespace('a')}---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  nodeName: 7\n`;
  assert.deepEqual(problemsOf(yaml), ['12: spec.nodeName must be a string, not 7']);
});

test('a missing field is reported with the line of what should hold it', () => {
  const yaml = 'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports:\n  - name: x\n';
  assert.deepEqual(problemsOf(yaml), ['6: spec.ports[0].port must be a whole number from 1 to 65535, not absent']);
});

const BROKEN: [name: string, yaml: string, expected: RegExp][] = [
  ['a tab', 'a:\n\t- b\n', /^2: not YAML/],
  ['an unclosed bracket', 'a: [b\n', /not YAML/],
  ['a key twice', 'apiVersion: v1\nkind: Namespace\nmetadata: {name: a, name: b}\n', /^3: not YAML: .*unique/],
  ['a scalar', 'hello\n', /^1: the document is not an object/],
  ['no kind', 'apiVersion: v1\n', /has no kind/],
  ['no name', 'apiVersion: v1\nkind: Pod\nmetadata: {}\n', /has no metadata\.name/],
  [
    'an alias bomb',
    `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`,
    /alias/,
  ],
  ['an object twice', `${namespace('a')}---\n${namespace('a')}`, /^7: the object is in this file twice/],
  [
    'an unknown kind',
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n',
    /apps\/v1 Deployment is not a kind the mesh reads/,
  ],
];
for (const [name, yaml, expected] of BROKEN) {
  test(`reported: ${name}`, () => {
    const problems = problemsOf(yaml);
    assert.equal(problems.length, 1, problems.join('; '));
    assert.match(problems[0] ?? '', expected);
  });
}

test('any text gives a result', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(...'abk: -[]{}&*!|>#"\'\n\t,?%@`~0123v'), maxLength: 200 }),
      (text) => {
        parseYamlObjects(text);
      },
    ),
    { numRuns: 2000 },
  );
});

test('objects come, change and go with their file', () => {
  const state = new FileState();
  state.read('a.yaml', `${namespace('a')}---\n${namespace('b')}`);
  assert.deepEqual(changes(state), { upserted: ['Namespace//a', 'Namespace//b'], removed: [] });
  assert.deepEqual(changes(state), { upserted: [], removed: [] });
  state.read('a.yaml', `${namespace('a', 'y')}---\n${namespace('b')}`);
  assert.deepEqual(changes(state), { upserted: ['Namespace//a'], removed: [] });
  state.remove('a.yaml');
  assert.deepEqual(changes(state), { upserted: [], removed: ['Namespace//a', 'Namespace//b'] });
});

test('what a text lacks stays until the file has settled', () => {
  const state = new FileState();
  state.read('a.yaml', `${namespace('a')}---\n${namespace('b')}`);
  changes(state);
  state.read('a.yaml', '');
  assert.ok(state.isUnsettled('a.yaml'));
  assert.deepEqual(changes(state), { upserted: [], removed: [] });
  state.read('a.yaml', namespace('a'));
  state.settle('a.yaml');
  assert.deepEqual(changes(state), { upserted: [], removed: ['Namespace//b'] });
});

test('an object that became wrong keeps its last good version, and the others of the file change', () => {
  const state = new FileState();
  state.read('a.yaml', `${namespace('a')}---\n${namespace('b')}`);
  changes(state);
  state.read('a.yaml', `${namespace('a').replace('"x"', '7')}---\n${namespace('b', 'y')}`);
  state.settle('a.yaml');
  assert.deepEqual(changes(state), { upserted: ['Namespace//b'], removed: [] });
  const [problem] = state.problems();
  assert.deepEqual([problem?.where, problem?.line, problem?.object], ['a.yaml', 5, 'Namespace//a']);
  assert.match(problem?.reason ?? '', /must be a string.*its last good version stays in use/);
});

test('a text that is broken in the middle takes no object away', () => {
  const state = new FileState();
  state.read('a.yaml', `${namespace('a')}---\n${namespace('b')}---\n${namespace('c')}`);
  changes(state);
  state.read('a.yaml', `${namespace('a', 'y')}---\n\tbroken: [\n---\n${namespace('c')}`);
  state.settle('a.yaml');
  assert.deepEqual(changes(state), { upserted: ['Namespace//a'], removed: [] });
});

test('of an object in two files the first file counts, the other takes over when it lets go', () => {
  const state = new FileState();
  state.read('b.yaml', namespace('a', 'second'));
  state.read('a.yaml', namespace('a', 'first'));
  const label = (): string | undefined => {
    const [object] = state.takeChanges().upserted;
    return object?.meta.labels.get('l');
  };
  assert.equal(label(), 'first');
  assert.match(state.problems()[0]?.reason ?? '', /also in a\.yaml, which counts/);
  state.remove('a.yaml');
  assert.equal(label(), 'second');
  assert.deepEqual(state.problems(), []);
});

test("editors' by-products are no objects", () => {
  for (const name of ['a.yaml', 'b.yml', 'c.json', 'x.y.yaml']) assert.ok(isObjectFile(name), name);
  for (const name of [
    '.a.yaml',
    '.a.yaml.swp',
    'a.yaml~',
    '#a.yaml#',
    'a.yaml.tmp',
    'a.tmp.yaml',
    'a.swp.yaml',
    '4913',
    'a.txt',
    'a.yaml.bak',
  ]) {
    assert.ok(!isObjectFile(name), name);
  }
});

test('paths read as people write them', () => {
  assert.equal(formatPath(['spec', 'rules', 0, 'from']), 'spec.rules[0].from');
  assert.equal(formatPath([]), 'the object');
});
