/** The file source: the contract of all sources, and what editors, tools and accidents do to a folder. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FileSource } from '../../control/sources/files.ts';
import { temporaryFolder } from '../support/control.ts';
import { eventually } from '../support/eventually.ts';
import { RecordingSink, sourceContract, startSource } from '../support/source-contract.ts';

const TIMES = { quietMs: 20, settleMs: 120, rescanMs: 400 };
const yaml = (name: string, label: string): string =>
  `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}, labels: {l: "${label}"}}\n`;

sourceContract('files', (context) => {
  const folder = temporaryFolder(context);
  return {
    source: new FileSource(folder, TIMES),
    put: ({ name, label }) => writeFileSync(join(folder, `${name}.yaml`), yaml(name, label)),
    spoil: (name) => writeFileSync(join(folder, `${name}.yaml`), yaml(name, 'x').replace('"x"', '7')),
    remove: (name) => rmSync(join(folder, `${name}.yaml`)),
  };
});

async function open(context: TestContext, files: Record<string, string>) {
  const folder = temporaryFolder(context);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const sink = await startSource(context, new FileSource(folder, TIMES));
  return {
    folder,
    sink,
    path: (name: string) => join(folder, name),
    removals: () => sink.changes.flatMap((change) => change.removed),
  };
}

test('an editor that moves the old file aside and writes a new one takes nothing away', async (context) => {
  const { sink, path, removals } = await open(context, { 'a.yaml': yaml('a', '1') });
  writeFileSync(path('4913'), '');
  rmSync(path('4913'));
  renameSync(path('a.yaml'), path('a.yaml~'));
  writeFileSync(path('.a.yaml.swp'), 'binary');
  writeFileSync(path('a.yaml'), yaml('a', '2'));
  rmSync(path('a.yaml~'));
  await sink.sees('a=2');
  assert.deepEqual(removals(), []);
});

test('a file that is emptied and filled piece by piece takes nothing away', async (context) => {
  const { sink, path, removals } = await open(context, { 'a.yaml': `${yaml('a', '1')}---\n${yaml('b', '1')}` });
  truncateSync(path('a.yaml'));
  const text = `${yaml('a', '2')}---\n${yaml('b', '2')}`;
  for (let at = 0; at < text.length; at += 20) {
    appendFileSync(path('a.yaml'), text.slice(at, at + 20));
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  await sink.sees('a=2 b=2');
  assert.deepEqual(removals(), []);
});

test('an object is never seen half written', async (context) => {
  const folder = temporaryFolder(context);
  const path = join(folder, 'a.yaml');
  writeFileSync(path, yaml('a', '1'));
  const sink = await startSource(context, new FileSource(folder, { ...TIMES, quietMs: 500, settleMs: 600 }));
  writeFileSync(path, 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n');
  for (const rest of ['  labels:\n', '    other: x\n', '    l: "2"\n']) {
    await new Promise((resolve) => setTimeout(resolve, 40));
    appendFileSync(path, rest);
  }
  await sink.sees('a=2');
  const labels = sink.changes.flatMap((change) => change.upserted.map(({ meta }) => meta.labels.get('l')));
  assert.deepEqual(labels, ['1', '2']);
});

test('a writer that pauses in the middle takes nothing away either', async (context) => {
  const folder = temporaryFolder(context);
  const path = join(folder, 'a.yaml');
  writeFileSync(path, yaml('a', '1'));
  const sink = await startSource(context, new FileSource(folder, { ...TIMES, settleMs: 3000 }));
  writeFileSync(path, 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: half}\n');
  await eventually('the half was read', () => assert.match(sink.current[0]?.reason ?? '', /not a kind the mesh reads/));
  writeFileSync(path, yaml('a', '2'));
  await sink.sees('a=2');
  assert.deepEqual(
    sink.changes.flatMap((change) => change.removed),
    [],
  );
});

test('an object that its file no longer holds goes once the file has settled', async (context) => {
  const { sink, path } = await open(context, { 'a.yaml': `${yaml('a', '1')}---\n${yaml('b', '1')}` });
  writeFileSync(path('a.yaml'), yaml('b', '1'));
  await sink.sees('b=1');
});

test('a file that moves to another name keeps its objects', async (context) => {
  const { sink, path, removals } = await open(context, { 'a.yaml': yaml('a', '1') });
  renameSync(path('a.yaml'), path('z.yaml'));
  writeFileSync(path('b.yaml'), yaml('b', '1'));
  await sink.sees('a=1 b=1');
  rmSync(path('b.yaml'));
  await sink.sees('a=1');
  assert.deepEqual(removals(), ['Namespace//b']);
});

test('files in folders below count, also in folders that come later and go', async (context) => {
  const { sink, path } = await open(context, {});
  mkdirSync(path('team/one'), { recursive: true });
  writeFileSync(path('team/one/a.yaml'), yaml('a', '1'));
  await sink.sees('a=1');
  writeFileSync(path('team/one/a.yaml'), yaml('a', '2'));
  await sink.sees('a=2');
  rmSync(path('team'), { recursive: true });
  await sink.sees('');
});

test('a folder that is switched by a link, as Kubernetes mounts do, changes in one step', async (context) => {
  const folder = temporaryFolder(context);
  for (const [version, label] of [
    ['..v1', '1'],
    ['..v2', '2'],
  ] as const) {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, 'a.yaml'), yaml('a', label));
    writeFileSync(join(folder, version, 'b.yaml'), yaml('b', label));
  }
  symlinkSync('..v1', join(folder, '..data'));
  for (const name of ['a.yaml', 'b.yaml']) symlinkSync(`..data/${name}`, join(folder, name));
  const sink = await startSource(context, new FileSource(folder, TIMES));
  assert.equal(sink.view(), 'a=1 b=1');
  symlinkSync('..v2', join(folder, '..data.new'));
  renameSync(join(folder, '..data.new'), join(folder, '..data'));
  await sink.sees('a=2 b=2');
  assert.deepEqual(
    sink.changes.flatMap((change) => change.removed),
    [],
  );
});

test('a folder that vanishes empties nothing; when it is back its files count again', async (context) => {
  const { folder, sink, path, removals } = await open(context, { 'a.yaml': yaml('a', '1') });
  renameSync(folder, `${folder}-away`);
  context.after(() => rmSync(`${folder}-away`, { recursive: true, force: true }));
  await new Promise((resolve) => setTimeout(resolve, 2 * TIMES.rescanMs));
  assert.deepEqual(removals(), []);
  mkdirSync(folder);
  writeFileSync(path('a.yaml'), yaml('a', '2'));
  await sink.sees('a=2');
});

test('a file that is too large is reported and changes nothing', async (context) => {
  const { sink, path } = await open(context, { 'a.yaml': yaml('a', '1') });
  writeFileSync(path('a.yaml'), `${yaml('a', '2')}# ${'x'.repeat(17 * 1024 * 1024)}\n`);
  await eventually('it is reported', () => assert.match(sink.current[0]?.reason ?? '', /larger than/));
  assert.equal(sink.view(), 'a=1');
});

test('a folder that cannot be read is refused at the start', async (context) => {
  const sink = { changed: () => {}, synced: () => {}, problems: () => {} };
  const source = new FileSource(join(temporaryFolder(context), 'none'), TIMES);
  await assert.rejects(source.start(sink), { code: 'CONFIGURATION' });
});

test('a file that cannot be read at the start is named with the reason, once, and nothing is served before it can', async (context) => {
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'good.yaml'), yaml('good', '1'));
  // A regular file whose first page is never mapped: reading it is an error even for root.
  symlinkSync('/proc/self/mem', join(folder, 'bad.yaml'));
  const sink = new RecordingSink();
  const told: string[] = [];
  const source = new FileSource(folder, TIMES);
  await source.start({
    changed: (change) => sink.changed(change),
    synced: () => sink.synced(),
    problems: (current) => {
      told.push(...current.map(({ where, reason }) => `${where}: ${reason}`));
      sink.problems(current);
    },
  });
  context.after(() => source.close());
  await eventually('the file is named', () => assert.match(told.join(), /^bad\.yaml: the file cannot be read: EIO/));
  // Two more looks.
  for (const label of ['2', '3']) {
    writeFileSync(join(folder, 'good.yaml'), yaml('good', label));
    await sink.sees(`good=${label}`);
  }
  assert.equal(told.length, 1, 'told once');
  assert.equal(sink.syncs, 0);
  assert.match(source.waitsFor().join(), /^bad\.yaml: EIO/);
  rmSync(join(folder, 'bad.yaml'));
  writeFileSync(join(folder, 'bad.yaml'), yaml('bad', '1'));
  await sink.sees('bad=1 good=3');
  await eventually('synced', () => assert.equal(sink.syncs, 1));
  assert.deepEqual(source.waitsFor(), []);
  assert.deepEqual(sink.current, []);
});
