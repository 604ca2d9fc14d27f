/**
 * Puts the plugin where the container runtime finds it, says what is wrong with an installation, and takes it away again.
 * Every file appears whole or not at all; the order is such that a runtime never reads a configuration that names a
 * missing program.
 *
 * The list of the node's own network is never changed. Ours is a copy of it with our entry at the end, under a name that
 * sorts before it: a node that reboots finds the chain with us in it from the first pod on (cni-folders.ts finds where).
 */
import { existsSync } from 'node:fs';
import { chmod, copyFile, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PLUGIN_TYPE, type PluginEntry } from '../../core/enrolment/plugin-entry.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { type Conflist, findConflist, withPlugin } from './conflist.ts';
import { haveSameContent } from './same-content.ts';

/** Names of our list, in the order of preference: the first that sorts before every other network is taken. */
export const OWN_CONFLISTS = [
  '02-ambit.conflist',
  '00-ambit.conflist',
  '00-00-ambit.conflist',
  '00-00-00-ambit.conflist',
];

export interface InstallOptions {
  /** The built executable. */
  readonly executable: string;
  /** Where the runtime looks for plugins, for example /opt/cni/bin. */
  readonly binaryFolder: string;
  /** Where the runtime looks for configurations, for example /etc/cni/net.d. */
  readonly configFolder: string;
  readonly entry: PluginEntry;
}

export type InstallFolders = Pick<InstallOptions, 'binaryFolder' | 'configFolder'>;

/** What an installation should look like now. */
interface Wanted {
  readonly name: string;
  readonly text: string;
  /** Lists of ours under other names, left by an earlier choice. */
  readonly surplus: readonly string[];
}

/** The program first, then the configuration that names it. Throws `CONFIGURATION` when there is no primary network yet. */
export async function installPlugin(options: InstallOptions): Promise<void> {
  const path = join(options.binaryFolder, PLUGIN_TYPE);
  if (!(await haveSameContent(options.executable, path))) {
    // A running program cannot be overwritten but can be replaced: copied beside, then renamed.
    await replaceFile(path, async (temporary) => {
      await copyFile(options.executable, temporary);
      await chmod(temporary, 0o755);
    });
  }
  const wanted = await wantedList(options);
  const file = join(options.configFolder, wanted.name);
  if ((await readText(file)) !== wanted.text) {
    await replaceFile(file, (temporary) => writeFile(temporary, wanted.text, { mode: 0o600 }));
  }
  for (const name of wanted.surplus) await rm(join(options.configFolder, name), { force: true });
}

/** What differs from a complete installation, in words; empty when it is complete. */
export async function inspectInstallation(options: InstallOptions): Promise<string[]> {
  const problems: string[] = [];
  const program = join(options.binaryFolder, PLUGIN_TYPE);
  if (!existsSync(program)) problems.push(`${PLUGIN_TYPE} is missing in ${options.binaryFolder}`);
  else if (!(await haveSameContent(options.executable, program))) problems.push(`${PLUGIN_TYPE} is another build`);
  try {
    const wanted = await wantedList(options);
    const text = await readText(join(options.configFolder, wanted.name));
    if (text === undefined) problems.push(`${wanted.name} is missing in ${options.configFolder}`);
    else if (text !== wanted.text)
      problems.push(`${wanted.name} differs from the primary network's list with our entry`);
    if (wanted.surplus.length > 0) problems.push(`superfluous: ${wanted.surplus.join(', ')}`);
  } catch (thrown) {
    if (!(thrown instanceof AmbitError)) throw thrown;
    problems.push(thrown.message);
  }
  return problems;
}

/** The configuration first, then the program. What is not there is no error. */
export async function uninstallPlugin(folders: InstallFolders): Promise<void> {
  for (const name of OWN_CONFLISTS) await rm(join(folders.configFolder, name), { force: true });
  await rm(join(folders.binaryFolder, PLUGIN_TYPE), { force: true });
  for (const folder of [folders.configFolder, folders.binaryFolder]) await removeDrafts(folder);
}

/** Paths of everything of ours in the folders. */
export async function findInstalled(folders: InstallFolders): Promise<string[]> {
  const found: string[] = [];
  const places: readonly (readonly [folder: string, ours: readonly string[]])[] = [
    [folders.configFolder, OWN_CONFLISTS],
    [folders.binaryFolder, [PLUGIN_TYPE]],
  ];
  for (const [folder, ours] of places) {
    const names = await readdir(folder).catch(() => []);
    found.push(...names.filter((name) => ours.includes(name)).map((name) => join(folder, name)));
  }
  return found;
}

/** Drafts of a run that was killed while it wrote. */
async function removeDrafts(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  const ours = new Set([...OWN_CONFLISTS, PLUGIN_TYPE].map((name) => `${name}.tmp`));
  for (const name of names) if (ours.has(name)) await rm(join(folder, name), { force: true });
}

async function wantedList(options: InstallOptions): Promise<Wanted> {
  const names = await listNetworks(options.configFolder);
  const others = names.filter((name) => !OWN_CONFLISTS.includes(name));
  const primary = await findPrimary(options.configFolder, others);
  if (primary === undefined) {
    throw new AmbitError('CONFIGURATION', `no network configuration in ${options.configFolder} to chain to`);
  }
  const name = OWN_CONFLISTS.find((candidate) => others.every((other) => candidate < other));
  if (name === undefined) {
    throw new AmbitError('CONFIGURATION', `no name of ours sorts before ${others[0]} in ${options.configFolder}`);
  }
  const text = `${JSON.stringify(withPlugin(primary, { ...options.entry }), undefined, 2)}\n`;
  return { name, text, surplus: names.filter((other) => OWN_CONFLISTS.includes(other) && other !== name) };
}

/** Names in the order in which runtimes look at them. */
async function listNetworks(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new AmbitError('CONFIGURATION', `${folder} cannot be read`, { cause });
  });
  return names.filter((name) => /\.(conf|conflist)$/.test(name)).sort();
}

/** The first network in the order of names, as runtimes choose it, leaving out what is unreadable. */
async function findPrimary(folder: string, names: readonly string[]): Promise<Conflist | undefined> {
  for (const name of names) {
    const text = await readText(join(folder, name));
    const conflist = text === undefined ? undefined : findConflist(text);
    if (conflist !== undefined) return conflist;
  }
  return undefined;
}

async function readText(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch(() => undefined);
}

async function replaceFile(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await rm(temporary, { force: true });
    await write(temporary);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    const readOnly = cause instanceof Error && 'code' in cause && cause.code === 'EROFS';
    const hint = readOnly ? ' (read-only: this runtime keeps its files in another folder)' : '';
    const { message } = toAmbitError(cause, 'CONFIGURATION');
    throw new AmbitError('CONFIGURATION', `${path} cannot be written: ${message}${hint}`, { cause });
  }
}
