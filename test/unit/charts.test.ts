/** What the Helm charts say follows from the code: settings, their values, the definitions of kinds. */
import assert from 'node:assert/strict';
import { existsSync, globSync, lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { freeVariables, variablesOf } from '../../scripts/charts/environment.ts';
import { chartFolder, generateChartFiles, PARTS, UMBRELLA } from '../../scripts/generate-charts.ts';
import { valueAt } from '../support/kube-api-call.ts';
import { ROOT } from '../support/source-files.ts';

/** Variables of the process, and what is read outside of the table of settings. */
const OTHER_VARIABLES = ['AMBIT_LOG_LEVEL', 'INSTANCE_IP', 'NODE_COMPILE_CACHE'];

test('generated files are what the code generates now', () => {
  for (const [path, text] of generateChartFiles()) {
    assert.ok(existsSync(join(ROOT, path)), `${path} is missing: run scripts/generate-charts.ts`);
    assert.equal(readFileSync(join(ROOT, path), 'utf8'), text, `${path} is old: run scripts/generate-charts.ts`);
  }
});

test('the chart of definitions has those of api/crds and no others', () => {
  const files = globSync('*.yaml', { cwd: join(ROOT, chartFolder('ambit-base'), 'files/crds') });
  assert.deepEqual(files.sort(), globSync('*.yaml', { cwd: join(ROOT, 'api/crds') }).sort());
});

test('the charts have no symbolic links, of which helm would tell everybody', () => {
  const all = globSync('**', { cwd: join(ROOT, UMBRELLA) });
  assert.ok(all.length > 30);
  assert.deepEqual(
    all.filter((path) => lstatSync(join(ROOT, UMBRELLA, path)).isSymbolicLink()),
    [],
  );
});

test('all charts have one version, that of the package', () => {
  const { version }: { version: string } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const folder of [UMBRELLA, ...PARTS.map(({ name }) => chartFolder(name))]) {
    const chart: unknown = parse(readFileSync(join(ROOT, folder, 'Chart.yaml'), 'utf8'));
    assert.deepEqual([valueAt(chart, 'version'), valueAt(chart, 'appVersion')], [version, version], folder);
  }
});

for (const { name, workload } of PARTS) {
  if (workload === undefined) continue;
  describe(`the chart ${name}`, () => {
    const { variables } = workload;
    const template = readFileSync(join(ROOT, chartFolder(name), workload.template), 'utf8');
    const values: unknown = parse(readFileSync(join(ROOT, chartFolder(name), 'values.yaml'), 'utf8'));
    const mapped = variables.filter(({ value }) => value !== undefined);

    test('has a value that the program understands for every setting that names one', () => {
      assert.ok(mapped.length > 5);
      for (const { names, value = '', understands } of mapped) {
        const found = valueAt(values, ...value.split('.'));
        assert.ok(found !== undefined, `values.yaml has no ${value}`);
        assert.ok(understands(String(found)), `${names[0]} does not understand ${value}: ${String(found)}`);
      }
    });

    test('sets no variable that is no setting, and none twice', () => {
      const known = new Set([...variables.flatMap(({ names }) => names), ...OTHER_VARIABLES]);
      const set = variablesOf(template);
      assert.ok(set.length > 8, set.join(' '));
      assert.deepEqual(
        set.filter((variable) => !known.has(variable)),
        [],
      );
      const generated = mapped.flatMap(({ names }) => names);
      assert.deepEqual(
        set.filter((variable) => generated.includes(variable)),
        [],
      );
    });

    test('leaves every other setting to env, which takes no other name', () => {
      const schema: unknown = JSON.parse(readFileSync(join(ROOT, chartFolder(name), 'values.schema.json'), 'utf8'));
      const accepted = valueAt(schema, 'properties', 'env', 'propertyNames', 'enum');
      const free = freeVariables(variables, template);
      assert.deepEqual(accepted, free);
      const set = new Set([...variablesOf(template), ...free]);
      for (const { names, value } of variables) {
        const places = [value !== undefined, names.some((variable) => set.has(variable))].filter(Boolean).length;
        assert.equal(places, 1, `${names.join(', ')}: settable in ${places} ways`);
      }
    });
  });
}
