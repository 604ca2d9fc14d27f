/** Every command of docs/INSTALL.md, in its order, on a cluster without anything, with the image of the present sources. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bedObstacle, run } from '../support/cluster.ts';
import { clusterBinary } from '../support/cluster-binaries.ts';
import { ClusterMesh, MESH_NAMESPACE } from '../support/cluster-mesh.ts';
import { pod } from '../support/cluster-workloads.ts';
import { commandBlocks, missingLines } from '../support/document-commands.ts';
import { ROOT } from '../support/source-files.ts';

const BLOCK_TIMEOUT_MS = 180_000;
const page = readFileSync(join(ROOT, 'docs/INSTALL.md'), 'utf8');
const blocks = commandBlocks(page);

describe('docs/INSTALL.md', { skip: bedObstacle() ?? false }, () => {
  let mesh: ClusterMesh;
  let programs: string;
  let broken = false;

  before(async () => {
    mesh = await ClusterMesh.open();
    const { version }: { version: string } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    for (const node of await mesh.bed.nodes()) {
      const images = (await mesh.bed.nodeExec(node, ['ctr', '-n', 'k8s.io', 'images', 'ls', '-q'])).split('\n');
      const image = images.find((name) => /^localhost\/ambit:/.test(name)) ?? '';
      await mesh.bed.nodeExec(node, ['ctr', '-n', 'k8s.io', 'images', 'tag', image, `localhost/ambit:${version}`]);
    }
    programs = mkdtempSync(join(tmpdir(), 'ambit-doc-'));
    for (const name of ['helm', 'kubectl'] as const) symlinkSync(clusterBinary(name), join(programs, name));
    // A warning of `check` is no failure of the page: what there is to warn about depends on the cluster.
    const ambit = `#!/bin/sh\n"${process.execPath}" "${join(ROOT, 'cli/main.ts')}" "$@"\ncode=$?\n[ "$1$code" != check1 ] || code=0\nexit "$code"\n`;
    writeFileSync(join(programs, 'ambit'), ambit);
    chmodSync(join(programs, 'ambit'), 0o755);
  });

  after(async () => {
    rmSync(programs, { recursive: true, force: true });
    await mesh[Symbol.asyncDispose]();
  });

  for (const { name, where, script, expected } of blocks) {
    test(`the commands of "${name}" do what the page says`, async (context) => {
      assert.ok(!broken, 'commands before this failed');
      broken = true;
      if (where === 'node') await leaveNodeUnclean();
      const output = where === 'node' ? await onNode(script) : await here(script);
      context.diagnostic(output.trim().split('\n').slice(-8).join(' | '));
      assert.deepEqual(missingLines(expected, output), [], output);
      if (where === 'node') await expectCleanNode();
      broken = false;
    });
  }

  test('has commands of every kind', () => {
    assert.ok(blocks.length > 12 && blocks.some(({ where }) => where === 'node'));
  });

  async function here(script: string): Promise<string> {
    const environment = { KUBECONFIG: mesh.bed.kubeconfig, PATH: `${programs}:${process.env.PATH ?? ''}` };
    const wrapped = `cd "$0" && set -e\n${script}`;
    return await run('/bin/sh', ['-c', wrapped, ROOT], { timeoutMs: BLOCK_TIMEOUT_MS, environment });
  }

  async function onNode(script: string): Promise<string> {
    return await mesh.bed.nodeExec('node1', ['sh', '-e', '-c', script]);
  }

  /** An agent that is killed before it can do anything, while a pod is in the mesh. */
  async function leaveNodeUnclean(): Promise<void> {
    await here('ambit install --yes && kubectl apply --filename docs/examples/shop.yaml');
    await mesh.bed.waitForRollout('shop', 'deploy/web');
    await mesh.bed.apply(pod({ name: 'captured', podSpec: { nodeName: 'node1' } }));
    await mesh.bed.waitFor('default', 'pod/captured', 'condition=Ready');
    await mesh.labelPod('default', 'captured', 'ambient');
    await mesh.bed.waitFor('default', 'pod/captured', 'condition=ambit.io/Enrolled');
    await mesh.bed.nodeExec('node1', ['pkill', '-STOP', '-f', 'opt/ambit/agent/(main|supervise)']);
    const { name } = await mesh.agentOf('node1');
    const uninstalled = here('ambit uninstall --yes --timeout 20');
    await mesh.bed.waitFor(MESH_NAMESPACE, 'ds/ambit-agent', 'delete');
    await mesh.bed.kubectl(['delete', 'pod', '-n', MESH_NAMESPACE, name, '--force', '--grace-period=0']);
    await assert.rejects(uninstalled, /not proven clean: node1/);
    assert.match(await onNode('ls /etc/cni/net.d /opt/cni/bin'), /ambit\.conflist[\s\S]*ambit-cni/);
    await assert.rejects(mesh.bed.podExec('default', 'captured', ['curl', '-sfm3', 'http://web.shop/']));
  }

  async function expectCleanNode(): Promise<void> {
    assert.doesNotMatch(await onNode('ls /etc/cni/net.d /opt/cni/bin /var/run; nft list tables'), /ambit/);
    await mesh.bed.podExec('default', 'captured', ['curl', '-sfm5', 'http://web.shop/']);
    await mesh.bed.apply(pod({ name: 'fresh', podSpec: { nodeName: 'node1' } }));
    await mesh.bed.waitFor('default', 'pod/fresh', 'condition=Ready');
  }
});
