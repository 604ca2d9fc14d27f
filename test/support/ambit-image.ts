/** The image of Ambit, built from a copy of the present sources, so that nothing changes under the build. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { run } from './cluster.ts';
import { CLUSTER_CACHE } from './cluster-binaries.ts';
import { ROOT } from './source-files.ts';

/** npm, apt and the bundles, nothing cached, on slow cores. */
const BUILD_TIMEOUT_MS = 400_000;
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
/** Any time: the same one for builds that are compared. */
const EPOCH = '1700000000';

export const BUILDAH = [
  ...['buildah', '--root', join(CLUSTER_CACHE, 'buildah')],
  ...['--runroot', join(CLUSTER_CACHE, 'buildah-run')],
];

export interface AmbitImage {
  /** `localhost/ambit:<version>`, the name the charts use by default. */
  readonly name: string;
  readonly digest: string;
  readonly billOfMaterials: unknown;
}

export class ImageSources implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Copies every file that belongs to the repository, committed or not. */
  static async copy(): Promise<ImageSources> {
    const sources = new ImageSources(await mkdtemp(join(tmpdir(), 'ambit-sources-')));
    const { stdout } = await promisify(execFile)('git', ['ls-files', '-z', '-co', '--exclude-standard'], {
      cwd: ROOT,
      maxBuffer: 16 * 1024 * 1024,
    });
    const files = stdout.split('\0').filter((file) => file !== '' && existsSync(join(ROOT, file)));
    for (const file of files) await cp(join(ROOT, file), join(sources.folder, file));
    return sources;
  }

  /** Builds into the store of the bed. `fresh`: without layers of former builds. */
  async build(options: { readonly tag?: string; readonly fresh?: boolean } = {}): Promise<AmbitImage> {
    const args = [
      ...(options.tag === undefined ? [] : ['--tag', options.tag]),
      ...(existsSync(CERTIFICATES) ? ['--ca', CERTIFICATES] : []),
      ...(options.fresh === true ? ['--no-cache'] : []),
    ];
    const environment = { BUILDAH: BUILDAH.join(' '), SOURCE_DATE_EPOCH: EPOCH };
    const script = join(this.folder, 'scripts', 'build-image');
    const output = await run(script, args, { timeoutMs: BUILD_TIMEOUT_MS, environment });
    const [name = '', digest = '', bill = ''] = output.trim().split(' ');
    return { name, digest, billOfMaterials: JSON.parse(readFileSync(join(dirname(script), '..', bill), 'utf8')) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** The files of an image that can be executed, without libraries and packages. */
export async function programsOf(image: string): Promise<string[]> {
  const [program = '', ...store] = BUILDAH;
  const container = (await run(program, [...store, 'from', '--pull=never', image])).trim();
  try {
    const root = (await run(program, [...store, 'mount', container])).trim();
    const files = await run('find', [root, '-type', 'f', '-perm', '/111', '-printf', '/%P\\n']);
    return files
      .split('\n')
      .filter((file) => file !== '' && !file.includes('/node_modules/') && !/\.(so(\.\d+)*|node)$/.test(file))
      .sort();
  } finally {
    await run(program, [...store, 'rm', container]);
  }
}

/** Builds the image of the present sources, with what is cached; a quarter of a minute when only sources changed. */
export async function buildAmbitImage(): Promise<AmbitImage> {
  await using sources = await ImageSources.copy();
  return await sources.build();
}
