/** What the Helm charts say follows from the code: settings, their values, the definitions of kinds. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { CONTROL_SETTINGS, type Setting } from '../../control/config.ts';
import { generateChartFiles } from '../../scripts/generate-charts.ts';
import { valueAt } from '../support/kube-api-call.ts';
import { ROOT } from '../support/source-files.ts';

const CONTROL_CHART = join(ROOT, 'daemonset', 'charts', 'ambit-control');
/** Variables of the process that are no settings of the control plane. */
const OTHER_VARIABLES = ['AMBIT_LOG_LEVEL'];
const settings = Object.values<Setting<unknown>>(CONTROL_SETTINGS);

test('generated files are what the code generates now', () => {
  for (const [path, text] of generateChartFiles()) {
    assert.ok(existsSync(join(ROOT, path)), `${path} is missing: run scripts/generate-charts.ts`);
    assert.equal(readFileSync(join(ROOT, path), 'utf8'), text, `${path} is old: run scripts/generate-charts.ts`);
  }
});

test('the chart of definitions has those of api/crds and no others', () => {
  const files = globSync('*.yaml', { cwd: join(ROOT, 'daemonset/charts/ambit-base/files/crds') });
  assert.deepEqual(files.sort(), globSync('*.yaml', { cwd: join(ROOT, 'api/crds') }).sort());
});

test('every setting that the chart has a value for understands the value of values.yaml', () => {
  const values: unknown = parse(readFileSync(join(CONTROL_CHART, 'values.yaml'), 'utf8'));
  const mapped = settings.filter(({ chart }) => chart !== undefined);
  assert.ok(mapped.length > 5);
  for (const { chart = '', flag, parse: read } of mapped) {
    const value = valueAt(values, ...chart.split('.'));
    assert.ok(value !== undefined, `values.yaml has no ${chart}`);
    assert.ok(read(String(value)).ok, `--${flag} does not understand ${chart}: ${String(value)}`);
  }
});

test('every variable that the Deployment sets is a setting', () => {
  const known = new Set([...settings.map(({ env }) => env), ...OTHER_VARIABLES]);
  const template = readFileSync(join(CONTROL_CHART, 'templates', 'deployment.yaml'), 'utf8');
  const names = [...template.matchAll(/- name: ([A-Z][A-Z0-9_]+)$/gm)].map(([, name = '']) => name);
  assert.ok(names.length > 8, names.join(' '));
  assert.deepEqual(
    names.filter((name) => !known.has(name)),
    [],
  );
});
