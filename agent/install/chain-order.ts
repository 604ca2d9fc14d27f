/**
 * The network configurations of the node as its runtime reads them: which file comes first, which plugins it names in which
 * order, and which one of them is ours. For the operator; nothing is changed.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PLUGIN_TYPE } from '../../core/enrolment/plugin-entry.ts';
import { toAmbitError } from '../../core/errors.ts';
import { findConflist } from './conflist.ts';
import { OWN_CONFLISTS } from './installer.ts';

/** Names of files that are told of. */
const MAX_FILES = 32;

export interface ChainOrder {
  /** The file that the runtime uses: the first by name that it can read. */
  readonly file: string | undefined;
  /** Types of the plugins of that file, in the order in which they are called. */
  readonly plugins: readonly string[];
  /** Every configuration of the folder, in the order of names. */
  readonly files: readonly string[];
  /** Ours among them. */
  readonly ownFile: string | undefined;
  /** Bytes of our program; undefined when it is missing. */
  readonly programBytes: number | undefined;
  readonly problem: string | undefined;
}

/** Never rejects. Folders as this process reaches them. */
export async function readChainOrder(configFolder: string, binaryFolder: string): Promise<ChainOrder> {
  const program = await stat(join(binaryFolder, PLUGIN_TYPE)).catch(() => undefined);
  const nothing = { file: undefined, plugins: [], files: [], ownFile: undefined, programBytes: program?.size };
  try {
    const names = (await readdir(configFolder)).filter((name) => /\.(conf|conflist|json)$/.test(name)).sort();
    const files = names.slice(0, MAX_FILES);
    const ownFile = files.find((name) => OWN_CONFLISTS.includes(name));
    for (const file of files) {
      const text = await readFile(join(configFolder, file), 'utf8').catch(() => '');
      const conflist = findConflist(text);
      if (conflist === undefined) continue;
      const plugins = conflist.plugins.map(({ type }) => String(type));
      return { file, plugins, files, ownFile, programBytes: program?.size, problem: undefined };
    }
    return { ...nothing, files, ownFile, problem: 'no configuration can be read' };
  } catch (thrown) {
    return { ...nothing, problem: toAmbitError(thrown, 'CONFIGURATION').message };
  }
}
