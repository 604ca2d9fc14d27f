/**
 * Builds the plugin as one executable file: bundled by esbuild, joined with the running Node (`--build-sea`) into
 * `dist/ambit-cni`. The result is kept as long as neither the bundle nor the runtime changes.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';

const run = promisify(execFile);

const ROOT = join(import.meta.dirname, '..');
const OUTPUT = join(ROOT, 'dist', 'ambit-cni');

export interface BuiltPlugin {
  readonly path: string;
  /** False when the file of a former build was still right. */
  readonly fresh: boolean;
}

/** Resolves when `path` is the plugin of the present sources. Builds side by side are safe: the last one wins whole. */
export async function buildPlugin(path: string = OUTPUT): Promise<BuiltPlugin> {
  const bundle = await bundlePlugin();
  const hash = createHash('sha256').update(`${process.version} ${process.arch}\n`).update(bundle).digest('hex');
  const stamp = `${path}.sha256`;
  const present = existsSync(path) ? await readFile(stamp, 'utf8').catch(() => '') : '';
  if (present.trim() === hash) return { path, fresh: false };
  await mkdir(join(path, '..'), { recursive: true });
  const folder = await mkdtemp(`${path}.build-`);
  try {
    await writeFile(join(folder, 'main.cjs'), bundle);
    await writeFile(join(folder, 'sea.json'), JSON.stringify(SEA_CONFIGURATION));
    await run(process.execPath, ['--build-sea', 'sea.json'], { cwd: folder });
    await rm(stamp, { force: true });
    await rename(join(folder, 'ambit-cni'), path);
    await writeFile(stamp, `${hash}\n`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return { path, fresh: true };
}

async function bundlePlugin(): Promise<Uint8Array> {
  const result = await build({
    entryPoints: [join(ROOT, 'cni-plugin', 'main.ts')],
    bundle: true,
    platform: 'node',
    target: 'node26',
    format: 'cjs',
    write: false,
    logLevel: 'silent',
  });
  const [file] = result.outputFiles;
  if (file === undefined) throw new Error('esbuild gave no output');
  return file.contents;
}

/** Paths become part of the executable: relative ones, so that the same sources give the same bytes wherever they lie. */
const SEA_CONFIGURATION = {
  main: 'main.cjs',
  output: 'ambit-cni',
  disableExperimentalSEAWarning: true,
  // Compiled code would differ from build to build, and saves nothing measurable of the 30 ms a call takes.
  useCodeCache: false,
  // Options come from nobody: not from the command line, not from NODE_OPTIONS of the runtime's environment.
  execArgvExtension: 'none',
};

if (import.meta.main) {
  const { path, fresh } = await buildPlugin();
  process.stdout.write(`${path} ${fresh ? 'was built' : 'is up to date'}\n`);
}
