/**
 * The image with load generator and servers: fortio, built once from its Go module into the cache of the bed, and iperf3
 * of Debian.
 */
import { existsSync, mkdtempSync } from 'node:fs';
import { copyFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { BUILDAH } from '../../test/support/ambit-image.ts';
import { type Cluster, run } from '../../test/support/cluster.ts';
import { CLUSTER_CACHE } from '../../test/support/cluster-binaries.ts';
import { ROOT } from '../../test/support/source-files.ts';

const FORTIO = 'fortio.org/fortio@v1.68.1';
export const LOAD_IMAGE = 'localhost/ambit-load:1';
/** A Go build, or apt, on slow cores. */
const BUILD_TIMEOUT_MS = 300_000;

/** Builds what is missing and makes the image known to every node. */
export async function loadLoadImage(cluster: Cluster): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-load-image-'));
  try {
    await copyFile(await fortio(), join(folder, 'fortio'));
    await copyFile(join(import.meta.dirname, 'image', 'Dockerfile'), join(folder, 'Dockerfile'));
    await run(join(ROOT, 'test', 'cluster', 'build'), ['--layers', '-t', LOAD_IMAGE, folder], {
      timeoutMs: BUILD_TIMEOUT_MS,
    });
    // An archive is what every kind of cluster can load.
    const archive = join(folder, 'image.tar');
    const [buildah = '', ...store] = BUILDAH;
    await run(buildah, [...store, 'push', '-q', LOAD_IMAGE, `docker-archive:${archive}:${LOAD_IMAGE}`]);
    await cluster.loadImage(archive);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function fortio(): Promise<string> {
  const folder = join(CLUSTER_CACHE, 'bin');
  const program = join(folder, 'fortio');
  if (!existsSync(program)) {
    const environment = {
      CGO_ENABLED: '0',
      GOBIN: folder,
      PATH: [process.env.PATH, '/usr/local/go/bin'].join(delimiter),
    };
    const args = ['install', '-trimpath', '-ldflags', '-s -w', FORTIO];
    await run('go', args, { environment, timeoutMs: BUILD_TIMEOUT_MS });
  }
  return program;
}
