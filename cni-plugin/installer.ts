/**
 * Puts the plugin where a container runtime finds it, and takes it away again. Every file appears whole or not at all; the
 * order is such that a runtime never reads a configuration that names a missing program.
 */
import { chmod, copyFile, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AmbitError } from '../core/errors.ts';
import { type ConfigObject, type Conflist, findConflist, withPlugin } from './conflist.ts';
import { PLUGIN_TYPE } from './network-config.ts';

/** Sorts before the files of other networks: runtimes take the first. */
export const OWN_CONFLIST = '02-ambit.conflist';

export interface InstallOptions {
  /** The built executable. */
  readonly executable: string;
  /** Where the runtime looks for plugins, for example /opt/cni/bin. */
  readonly binaryFolder: string;
  /** Where the runtime looks for configurations, for example /etc/cni/net.d. */
  readonly configFolder: string;
  /** Our entry of the chain; `type` is added. */
  readonly entry: ConfigObject;
}

/** The program first, then the configuration that names it. Throws `CONFIGURATION` when there is no primary network yet. */
export async function installPlugin(options: InstallOptions): Promise<void> {
  await installExecutable(options.executable, options.binaryFolder);
  const primary = await findPrimary(options.configFolder);
  if (primary === undefined) {
    throw new AmbitError('CONFIGURATION', `no network configuration in ${options.configFolder} to chain to`);
  }
  const text = `${JSON.stringify(withPlugin(primary, options.entry), undefined, 2)}\n`;
  await replaceFile(join(options.configFolder, OWN_CONFLIST), (temporary) =>
    writeFile(temporary, text, { mode: 0o600 }),
  );
}

/** The configuration first, then the program. What is not there is no error. */
export async function uninstallPlugin(options: Pick<InstallOptions, 'binaryFolder' | 'configFolder'>): Promise<void> {
  await rm(join(options.configFolder, OWN_CONFLIST), { force: true });
  await rm(join(options.binaryFolder, PLUGIN_TYPE), { force: true });
}

/** A running program cannot be overwritten but can be replaced: copied beside, then renamed. */
async function installExecutable(source: string, folder: string): Promise<void> {
  await replaceFile(join(folder, PLUGIN_TYPE), async (temporary) => {
    await copyFile(source, temporary);
    await chmod(temporary, 0o755);
  });
}

/** The first network configuration in the order of names, as runtimes choose it, leaving out ours and what is unreadable. */
async function findPrimary(folder: string): Promise<Conflist | undefined> {
  const names = (await readdir(folder))
    .filter((name) => /\.(conf|conflist)$/.test(name) && name !== OWN_CONFLIST)
    .sort();
  for (const name of names) {
    const conflist = findConflist(await readFile(join(folder, name), 'utf8'));
    if (conflist !== undefined) return conflist;
  }
  return undefined;
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
    throw new AmbitError('CONFIGURATION', `${path} cannot be written${hint}`, { cause });
  }
}
