/** What the sandbox reads from its mesh folder, and what it makes of it: services, hosts files, pod objects. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseDocument } from 'yaml';
import { KIND_TABLE } from '../../../control/objects/object.ts';
import { decode } from '../../../core/decoder.ts';
import { podObject } from '../../../sandbox/cluster-files.ts';
import { MESH_DIRECTORY } from '../../../sandbox/layout.ts';
import { meshSignature, readMeshFiles } from '../../../sandbox/mesh-files.ts';
import { findPolicyFile } from '../../../sandbox/policy-files.ts';
import { renderHosts, renderServiceRules } from '../../../sandbox/service-rules.ts';

test('the demo describes five pods over two nodes and their services, without a problem', async () => {
  const files = await readMeshFiles(MESH_DIRECTORY);
  assert.deepEqual(files.problems, []);
  assert.deepEqual(files.pods.map((pod) => `${pod.namespace}/${pod.name} ${pod.node}`).sort(), [
    'legacy/cron a',
    'shop/catalog-v1 b',
    'shop/catalog-v2 a',
    'shop/frontend a',
    'shop/stock b',
  ]);
  assert.equal(files.namespaces.get('shop')?.get('istio.io/dataplane-mode'), 'ambient');
  assert.equal(files.namespaces.get('legacy')?.size, 0);
});

test('every policy of the demo becomes a valid object when its comment signs are removed', async () => {
  const folder = `${MESH_DIRECTORY}/policies`;
  for (const name of await readdir(folder)) {
    const lines = (await readFile(`${folder}/${name}`, 'utf8')).split('\n');
    const from = lines.indexOf('#');
    assert.ok(from > 0, `${name} explains itself first`);
    const text = lines
      .slice(from)
      .map((line) => line.replace(/^# ?/, ''))
      .join('\n');
    const object: unknown = parseDocument(text).toJS();
    const row = KIND_TABLE.find((candidate) => text.includes(`kind: ${candidate.kind}\n`));
    assert.ok(row !== undefined, name);
    const decoded = decode(row.decoder, object);
    assert.ok(decoded.ok, `${name}: ${JSON.stringify(decoded)}`);
  }
});

test('a wrong file is reported with its name and does not hide the others', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ambit-mesh-'));
  t.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, 'pods'));
  const signature = await meshSignature(folder);
  await writeFile(join(folder, 'good.yaml'), 'apiVersion: v1\nkind: Namespace\nmetadata: { name: good }\n');
  assert.notEqual(await meshSignature(folder), signature);
  await writeFile(join(folder, 'bad.yaml'), 'a: [b\n');
  await writeFile(join(folder, 'stray.yaml'), 'apiVersion: v1\nkind: Pod\nmetadata: { name: stray }\nspec: {}\n');
  await writeFile(
    join(folder, 'pods', 'nowhere.yaml'),
    'apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec: { containers: [{ name: c, command: [x] }] }\n',
  );
  const files = await readMeshFiles(folder);
  assert.deepEqual([...files.namespaces.keys()], ['good']);
  assert.equal(files.problems.length, 3);
  assert.match(
    files.problems.join('\n'),
    /bad\.yaml: [\s\S]*pods\/nowhere\.yaml: pod p: nodeSelector[\s\S]*stray\.yaml: pods to run belong in/,
  );
});

test('a service is translated to its ready endpoints with equal chances, in its own namespace only', async () => {
  const { services } = await readMeshFiles(MESH_DIRECTORY);
  const catalog = { namespace: 'shop', labels: new Map([['app', 'catalog']]), namedPorts: new Map<string, number>() };
  const rules = renderServiceRules(services, [
    { ...catalog, ip: '10.91.1.3' },
    { ...catalog, ip: '10.91.2.3' },
    { ...catalog, namespace: 'legacy', ip: '10.91.9.9' },
  ]);
  const lines = rules.split('\n').filter((line) => line.includes('10.92.0.11 tcp dport 80 '));
  assert.deepEqual(
    lines.map((line) => line.trim()),
    [
      'ip daddr 10.92.0.11 tcp dport 80 numgen random mod 2 0 dnat to 10.91.1.3:8080',
      'ip daddr 10.92.0.11 tcp dport 80 dnat to 10.91.2.3:8080',
    ],
  );
  assert.ok(!rules.includes('10.91.9.9'));
});

test('hosts files give short names within the namespace and full names everywhere', async () => {
  const { services } = await readMeshFiles(MESH_DIRECTORY);
  assert.match(
    renderHosts('shop', services, 'cluster.local'),
    /^10\.92\.0\.14 stock stock\.shop stock\.shop\.svc stock\.shop\.svc\.cluster\.local$/m,
  );
  assert.match(renderHosts('legacy', services, 'cluster.local'), /^10\.92\.0\.14 stock\.shop stock\.shop\.svc /m);
});

test('a pod object carries what the mesh reads, and the annotation only while it is captured', async () => {
  const { pods } = await readMeshFiles(MESH_DIRECTORY);
  const template = pods.find((pod) => pod.name === 'frontend');
  assert.ok(template !== undefined);
  const status = { uid: 'u', ready: true, startedAt: new Date(0).toISOString() };
  const running = JSON.stringify(podObject(template, { ...status, ip: '10.91.1.2', enrolled: true }));
  for (const part of [
    '"nodeName":"a"',
    '"podIP":"10.91.1.2"',
    '"ambient.istio.io/redirection":"enabled"',
    '"phase":"Running"',
  ]) {
    assert.ok(running.includes(part), part);
  }
  const pending = JSON.stringify(podObject(template, { ...status, enrolled: false }));
  assert.ok(!pending.includes('redirection') && pending.includes('"phase":"Pending"'));
});

test('a verdict can point to the line of its policy', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ambit-policy-'));
  t.after(() => rm(folder, { recursive: true }));
  const policy = 'kind: AuthorizationPolicy\nmetadata: { name: deny, namespace: shop }\n';
  await writeFile(join(folder, 'p.yaml'), `# a comment\nkind: Other\n---\n${policy}`);
  assert.match((await findPolicyFile('shop/deny', folder)) ?? '', /p\.yaml:4$/);
  assert.equal(await findPolicyFile('shop/other', folder), undefined);
});
