/** docs/INSTALL.md says of rights and values what the charts say. That its commands work: test/cluster/install-doc.test.ts. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { chartFolder, UMBRELLA } from '../../scripts/generate-charts.ts';
import { commandBlocks, missingLines } from '../support/document-commands.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { ROOT } from '../support/source-files.ts';

const page = readFileSync(join(ROOT, 'docs/INSTALL.md'), 'utf8');
const rendered = parseAllDocuments(readFileSync(join(ROOT, 'daemonset/rendered/default.yaml'), 'utf8')).map(
  (document): unknown => document.toJS(),
);

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : [];
}

test('every right of the charts has a row that says why, and no row tells of another', () => {
  for (const part of ['agent', 'control']) {
    const rows = page.split('\n').filter((line) => line.startsWith(`| ${part} |`));
    assert.ok(rows.length > 3);
    const granted = rendered
      .filter((object) => ['Role', 'ClusterRole'].includes(textAt(object, 'kind')))
      .filter((object) => textAt(object, 'metadata', 'name').startsWith(`ambit-${part}`))
      .flatMap((object) => {
        const rules = valueAt(object, 'rules');
        return Array.isArray(rules) ? rules : [];
      });
    const resources = new Set<string>();
    for (const rule of granted) {
      for (const resource of texts(valueAt(rule, 'resources'))) {
        resources.add(resource);
        for (const verb of texts(valueAt(rule, 'verbs'))) {
          const found = rows.some((row) => row.includes(`\`${resource}\``) && row.includes(`\`${verb}\``));
          assert.ok(found, `${part}: nothing about ${verb} of ${resource}`);
        }
      }
    }
    const verbs = ['get', 'list', 'watch', 'create', 'patch', 'update', 'attest'];
    for (const row of rows) {
      const named = [...row.matchAll(/`([a-z/]+)`/g)].map(([, name = '']) => name);
      for (const name of named.filter((one) => !verbs.includes(one))) {
        assert.ok(resources.has(name), `${part} has no right to ${name}`);
      }
    }
  }
});

test('values that the page names exist', () => {
  const valuesOf = (folder: string): unknown => parse(readFileSync(join(ROOT, folder, 'values.yaml'), 'utf8'));
  const names = [...page.matchAll(/`((?:global|ambit-(?:control|agent|base))\.[A-Za-z.]+)(?:=[^`]*)?`/g)];
  assert.ok(names.length > 15);
  for (const [, name = ''] of names) {
    const [part = '', ...path] = name.split('.');
    const values = part === 'global' ? valuesOf(UMBRELLA) : valuesOf(chartFolder(part));
    const value = valueAt(values, ...(part === 'global' ? ['global', ...path] : path));
    // Content of maps that are Kubernetes' own is not in values.yaml.
    assert.ok(value !== undefined || path[0] === 'seccompProfile', name);
  }
});

test('a page is read as blocks with their places and output, and an unknown kind of block is refused', () => {
  const blocks = commandBlocks('# A\n```sh\nx\ny\n```\n```text\nfoo\n```\n## B\n```sh node\nz\n```\n');
  assert.deepEqual(blocks, [
    { name: 'A 1', where: 'here', script: 'x\ny\n', expected: ['foo'] },
    { name: 'B 1', where: 'node', script: 'z\n', expected: [] },
  ]);
  assert.throws(() => commandBlocks('# A\n```bash\nx\n```\n'), /run by nobody/);
  assert.deepEqual(missingLines(['a...c', 'b'], 'abc\nb\n'), []);
  assert.deepEqual(missingLines(['b', 'a...'], 'abc\nb\n'), ['a...']);
});
