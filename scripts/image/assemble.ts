/**
 * `assemble.ts OUT PACKAGES`: writes /opt/ambit of the image below OUT: the bundles of agent, control plane and command line,
 * the CNI plugin, the native packages, the licence, and the bill of materials. PACKAGES lists the Debian packages in the
 * image (collect-system). Runs in the `build` stage of the Dockerfile; SOURCE_DATE_EPOCH dates the bill of materials.
 */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { buildAgent } from '../../agent/build.ts';
import { buildPlugin } from '../../cni-plugin/build.ts';
import { buildControl } from '../../control/build.ts';
import { buildBundle, INPUTS_FILE } from '../../core/bundle.ts';
import { billOfMaterials, packagesOf } from './bill-of-materials.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const BILL = 'bill-of-materials.cdx.json';
/** With native parts, so they lie beside the bundles; of each only what this machine loads. */
const NATIVE_PACKAGES = ['koffi', `@koromix/koffi-linux-${process.arch}`, 'netlink', 'node-gyp-build'];

const [out, packages] = process.argv.slice(2);
if (out === undefined || packages === undefined) throw new Error('usage: assemble.ts OUT PACKAGES');
await assemble(join(out, 'opt', 'ambit'), await readFile(packages, 'utf8'));

async function assemble(folder: string, debianPackages: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const drafts = await mkdtemp(join(tmpdir(), 'ambit-image-'));
  const bundles = {
    agent: await buildAgent(drafts),
    control: await buildControl(drafts),
    cli: await buildBundle({ name: 'cli', entries: { main: join(ROOT, 'cli', 'in-image.ts') } }, drafts),
  };
  const inputs: string[] = [];
  for (const [name, main] of Object.entries(bundles)) {
    inputs.push(...(await copyBundle(dirname(main), join(folder, name))));
  }
  await rm(drafts, { recursive: true });
  const { path } = await buildPlugin(join(folder, 'cni', 'ambit-cni'));
  await rm(`${path}.sha256`);
  for (const name of NATIVE_PACKAGES) await copyPackage(name, join(folder, 'node_modules', name));
  await cp(join(ROOT, 'agent', 'supervise'), join(folder, 'agent', 'supervise'));
  await cp(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'));
  const manifest = await readFile(join(ROOT, 'package.json'), 'utf8');
  const { name, version }: { name: string; version: string } = JSON.parse(manifest);
  await writeFile(join(folder, 'package.json'), `${JSON.stringify({ name, version, type: 'module' })}\n`);
  const bill = billOfMaterials({
    version,
    lock: JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')),
    packages: new Set([...packagesOf(inputs), ...NATIVE_PACKAGES.map((name) => `node_modules/${name}`)]),
    debianPackages,
    dateMs: Number(process.env.SOURCE_DATE_EPOCH ?? 0) * 1000,
  });
  await writeFile(join(folder, BILL), `${JSON.stringify(bill, undefined, 2)}\n`);
}

/** Copies the programs, not their source maps, and resolves with the sources that went into them. */
async function copyBundle(from: string, to: string): Promise<string[]> {
  await mkdir(to);
  for (const file of await readdir(from)) if (file.endsWith('.js')) await cp(join(from, file), join(to, file));
  return JSON.parse(await readFile(join(from, INPUTS_FILE), 'utf8'));
}

/** Without sources, documentation, type definitions, nested packages, and what is for other machines. */
async function copyPackage(name: string, to: string): Promise<void> {
  const from = join(ROOT, 'node_modules', name);
  const wanted = (path: string): boolean => {
    const relative = path.slice(from.length + 1);
    if (/\.(d\.ts|map|md|gyp|cc|hh?|cpp)$/.test(path)) return false;
    if (/^(node_modules|doc|vendor|musl_\w+)(\/|$)/.test(relative)) return false;
    const [prebuilds, machine] = relative.split('/');
    return prebuilds !== 'prebuilds' || machine === undefined || machine === `linux-${process.arch}`;
  };
  await cp(from, to, { recursive: true, filter: (path) => basename(path) === name || wanted(path) });
}
