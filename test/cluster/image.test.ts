/** The image: what is in it, that it runs with the least a pod may have, and that it can be built again to the byte. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type AmbitImage, BUILDAH, ImageSources, programsOf } from '../support/ambit-image.ts';
import { bedObstacle, type Cluster, openCluster, run } from '../support/cluster.ts';
import { pod } from '../support/cluster-workloads.ts';
import { eventually } from '../support/eventually.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';

/** Of this run alone: the store is shared. */
const TAG = `localhost/ambit:t${process.pid}`;
/** Longest download of a node, bytes (gzip). */
const MAX_COMPRESSED_BYTES = 100 * 1024 * 1024;
const MAX_START_MS = 60_000;
/** The least a pod may have. */
const LOCKED = {
  readOnlyRootFilesystem: true,
  allowPrivilegeEscalation: false,
  runAsNonRoot: true,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};

describe('the image', { skip: bedObstacle() ?? false }, () => {
  let sources: ImageSources;
  let image: AmbitImage;
  let cluster: Cluster;

  before(async () => {
    sources = await ImageSources.copy();
    image = await sources.build({ tag: TAG });
    cluster = await openCluster();
    await cluster.loadImage(image.name);
  });

  after(async () => {
    await cluster[Symbol.asyncDispose]();
    await sources[Symbol.asyncDispose]();
    const [program = '', ...args] = BUILDAH;
    await run(program, [...args, 'rmi', '--force', TAG]);
  });

  test('says its version as a pod without rights', async () => {
    const log = await logOf('version', {});
    assert.match(log, new RegExp(`^ambit +\\d+\\.\\d+\\.\\d+\\S*\\nnode +${process.versions.node}\\n`));
  });

  test('has an agent that finds everything it needs but the rights of its DaemonSet', async () => {
    const log = await logOf('agent', { command: ['node', '/opt/ambit/agent/main.js'] });
    assert.match(log, /"code":"MISSING_CAPABILITY"/);
  });

  test('has a control plane', async () => {
    assert.match(await logOf('control', { command: ['node', '/opt/ambit/control/main.js', '--help'] }), /Options:/);
  });

  test('has nft and the CNI plugin', async () => {
    assert.match(await logOf('nft', { command: ['nft', '--version'] }), /^nftables v/);
    const env = [{ name: 'CNI_COMMAND', value: 'VERSION' }];
    const answer: unknown = JSON.parse(await logOf('cni', { command: ['/opt/ambit/cni/ambit-cni'], env }));
    assert.ok(Array.isArray(valueAt(answer, 'supportedVersions')));
  });

  test('has the programs that Ambit runs, and no other', async () => {
    assert.deepEqual(await programsOf(image.name), [
      // The shell and sleep are for the agent's supervisor.
      '/bin/sh',
      '/bin/sleep',
      '/opt/ambit/agent/supervise',
      '/opt/ambit/cni/ambit-cni',
      '/usr/local/bin/node',
      '/usr/sbin/nft',
    ]);
  });

  test('lists what it consists of, beside the image too', () => {
    const components = valueAt(image.billOfMaterials, 'components');
    assert.ok(Array.isArray(components));
    const names = components.map((component) => textAt(component, 'name'));
    for (const name of ['node', 'openssl', 'nghttp2', 'libc6', 'nftables', 'koffi', 'pino', '@grpc/grpc-js']) {
      assert.ok(names.includes(name), `${name} is missing`);
    }
    for (const name of ['esbuild', 'typescript', 'bash', 'apt', 'dpkg']) assert.ok(!names.includes(name), name);
  });

  test(`is at most ${MAX_COMPRESSED_BYTES / 1024 / 1024} MiB to download`, async (context) => {
    const folder = await mkdtemp(join(tmpdir(), 'ambit-oci-'));
    try {
      const [program = '', ...args] = BUILDAH;
      await run(program, [...args, 'push', '-q', image.name, `oci:${folder}/image`]);
      const blobs = join(folder, 'image', 'blobs', 'sha256');
      const sizes = await Promise.all((await readdir(blobs)).map(async (blob) => (await stat(join(blobs, blob))).size));
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      context.diagnostic(`${bytes} bytes`);
      assert.ok(bytes <= MAX_COMPRESSED_BYTES, `${bytes} bytes`);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('has the same digest when it is built again from nothing', async () => {
    const again = await sources.build({ tag: TAG, fresh: true });
    assert.equal(again.digest, image.digest);
  });

  /** What a pod of the image writes until it ends. */
  async function logOf(name: string, container: object): Promise<string> {
    await start(name, container);
    await eventually(
      `pod ${name} ends`,
      async () => {
        const phase = await cluster.kubectl(['get', 'pod', name, '-o', 'jsonpath={.status.phase}']);
        if (!['Succeeded', 'Failed'].includes(phase)) throw new Error(await cluster.describe('default'));
      },
      MAX_START_MS,
    );
    const log = await cluster.kubectl(['logs', name]);
    await remove(name);
    return log;
  }

  async function start(name: string, container: object): Promise<void> {
    const over = { image: image.name, securityContext: LOCKED, readinessProbe: undefined, ...container };
    await cluster.apply(pod({ name, podSpec: { restartPolicy: 'Never' }, container: over }));
  }

  async function remove(name: string): Promise<void> {
    await cluster.kubectl(['delete', 'pod', name, '--now', '--timeout=30s']);
  }
});
