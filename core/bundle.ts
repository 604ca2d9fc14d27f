/**
 * Programs as they run in production: bundled into `dist/<name>-<hash of the content>/`. Node then neither strips types nor
 * loads half a thousand modules, which is most of the memory of an idle process.
 *
 * A folder is never changed once it exists, so a running program can start its other files from the very code it runs
 * itself. Function names are kept for stack traces; source maps lie beside the bundles and are not loaded. The sources
 * themselves run as well, only bigger.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { OutputFile, Plugin } from 'esbuild';
import { toAmbitError } from './errors.ts';

const ROOT = join(import.meta.dirname, '..');
const OUTPUT = join(ROOT, 'dist');
const BUILD_TIMEOUT_MS = 30_000;
/** With native parts (found from their own folder), or never needed by a client. They stay in node_modules. */
const NOT_BUNDLED = ['koffi', 'netlink', '@grpc/proto-loader', '@kubernetes/client-node'];

/** Beside the bundles: the paths of all sources that went in, relative to the root of the repository, as JSON. */
export const INPUTS_FILE = 'inputs.json';

export interface Bundle {
  /** First part of the name of the folder. */
  readonly name: string;
  /** Paths of the sources by the name of the bundle; one is `main`. */
  readonly entries: Readonly<Record<string, string>>;
}

export interface Program {
  /** The file to run with Node. */
  readonly file: string;
  /** Why it is not a bundle. */
  readonly unbuilt?: string;
}

/**
 * The program of the present sources: a bundle where one can be built, else `source`. Never rejects. `builder` is the file
 * that builds it and prints its path; it runs in a process of its own, so that nothing of it outlives the call.
 */
export async function builtProgram(builder: string, source: string): Promise<Program> {
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [builder], { timeout: BUILD_TIMEOUT_MS });
    return { file: stdout.trim() };
  } catch (thrown) {
    return { file: source, unbuilt: toAmbitError(thrown, 'USAGE').message };
  }
}

/** Resolves with the path of the `main.js` of the present sources. Builds side by side are safe. */
export async function buildBundle(bundle: Bundle, output: string = OUTPUT): Promise<string> {
  const { files, inputs } = await makeBundle(bundle);
  const hash = createHash('sha256').update(process.version);
  for (const { path, contents } of files) hash.update(`\n${basename(path)} ${contents.length}\n`).update(contents);
  const folder = join(output, `${bundle.name}-${hash.digest('hex').slice(0, 16)}`);
  if (!existsSync(folder)) await writeFolder(folder, files, inputs);
  return join(folder, 'main.js');
}

/** All files or none: they are written elsewhere and renamed. Who comes second leaves the first one's. */
async function writeFolder(folder: string, files: readonly OutputFile[], inputs: readonly string[]): Promise<void> {
  await mkdir(join(folder, '..'), { recursive: true });
  const draft = await mkdtemp(`${folder}.build-`);
  try {
    for (const { path, contents } of files) await writeFile(join(draft, basename(path)), contents);
    await writeFile(join(draft, INPUTS_FILE), JSON.stringify(inputs));
    await chmod(draft, 0o755);
    await rename(draft, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function makeBundle({ entries }: Bundle): Promise<{ files: OutputFile[]; inputs: string[] }> {
  const { build } = await import('esbuild');
  const result = await build({
    entryPoints: { ...entries },
    absWorkingDir: ROOT,
    outdir: OUTPUT,
    bundle: true,
    platform: 'node',
    target: 'node26',
    format: 'esm',
    external: NOT_BUNDLED,
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    sourcemap: 'external',
    sourcesContent: false,
    metafile: true,
    plugins: [requiredBuiltins, unusedParts],
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
    write: false,
    logLevel: 'silent',
  });
  return { files: result.outputFiles, inputs: Object.keys(result.metafile.inputs) };
}

/**
 * Modules of Node are required, not imported: an import of `node:http` reads every export of it, and one of them loads the
 * whole of fetch (6 MB).
 */
const requiredBuiltins: Plugin = {
  name: 'required-builtins',
  setup(build) {
    build.onResolve({ filter: /^node:/ }, ({ path, kind }) =>
      kind === 'import-statement' ? { path, namespace: 'builtin' } : undefined,
    );
    build.onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)})`,
    }));
  },
};

/** Parts of prom-client that nobody here uses: to load them takes a tenth of a start (HTTP, cluster, OpenTelemetry). */
const unusedParts: Plugin = {
  name: 'unused-parts',
  setup(build) {
    build.onLoad({ filter: /\/prom-client\/lib\/(pushgateway|defaultMetrics|cluster)\.js$/ }, () => ({
      contents: 'module.exports = () => { throw new Error("this part of prom-client is not in the bundle"); }',
    }));
  },
};
