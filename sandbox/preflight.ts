/** What the sandbox needs of the machine, checked before anything is made; every lack is named at once. */
import { access, constants } from 'node:fs/promises';
import { AmbitError } from '../core/errors.ts';
import { runCommand } from './command.ts';
import { CNI_PLUGIN_DIRECTORIES, REPOSITORY_DIRECTORY } from './layout.ts';

/** Debian's names of the packages that bring each program. */
const TOOLS: readonly { readonly program: string; readonly package: string }[] = [
  { program: 'ip', package: 'iproute2' },
  { program: 'nft', package: 'nftables' },
  { program: 'tcpdump', package: 'tcpdump' },
  { program: 'curl', package: 'curl' },
  { program: 'nsenter', package: 'util-linux' },
  { program: 'unshare', package: 'util-linux' },
  { program: 'setpriv', package: 'util-linux' },
  { program: 'mount', package: 'mount' },
];
const REFERENCE_PLUGINS: readonly string[] = ['ptp', 'host-local'];

/** The reference plugins' folder and ours. */
export interface Preflight {
  readonly pluginDirectories: readonly string[];
}

/** Throws `MISSING_CAPABILITY` when not root, `MISSING_TOOL` with what to install otherwise. */
export async function checkMachine(): Promise<Preflight> {
  if (process.getuid?.() !== 0) {
    throw new AmbitError('MISSING_CAPABILITY', 'the sandbox makes network namespaces and must run as root');
  }
  const missing: string[] = [];
  const packages = new Set<string>();
  for (const tool of TOOLS) {
    if ((await runCommand(['sh', '-c', `command -v ${tool.program}`])).status === 0) continue;
    missing.push(tool.program);
    packages.add(tool.package);
  }
  const plugins = await findReferencePlugins();
  if (plugins === undefined) {
    missing.push(`CNI plugins ${REFERENCE_PLUGINS.join(', ')}`);
    packages.add('containernetworking-plugins');
  }
  if (missing.length > 0 || plugins === undefined) {
    const install = `apt-get install ${[...packages].join(' ')}`;
    throw new AmbitError(
      'MISSING_TOOL',
      `not on this machine: ${missing.join(', ')}. On Debian and Ubuntu: ${install}`,
    );
  }
  return { pluginDirectories: [plugins, `${REPOSITORY_DIRECTORY}/dist`] };
}

async function findReferencePlugins(): Promise<string | undefined> {
  for (const directory of CNI_PLUGIN_DIRECTORIES) {
    const found = await Promise.all(
      REFERENCE_PLUGINS.map((name) =>
        access(`${directory}/${name}`, constants.X_OK).then(
          () => true,
          () => false,
        ),
      ),
    );
    if (found.every(Boolean)) return directory;
  }
  return undefined;
}
