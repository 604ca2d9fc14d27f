/**
 * The plugin on this node, as the agent starts and stops it: folders found, kept installed while the agent lives, and at the
 * end either left for the successor or taken away.
 */
import { PLUGIN_TYPE, type PluginEntry } from '../../core/enrolment/plugin-entry.ts';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { type CniFolders, findCniFolders } from './cni-folders.ts';
import { findInstalled, uninstallPlugin } from './installer.ts';
import { InstallationKeeper, type KeeperStatus } from './keeper.ts';
import { visiblePath } from './node-path.ts';

const log = logger('install');

export interface InstallationOptions {
  /** Where the node's file system is visible to this process; `/` on the node itself. */
  readonly hostRoot: string;
  /** The node's /proc, where it is visible. */
  readonly hostProc: string | undefined;
  /** As the node names them; undefined: found out. */
  readonly binaryFolder: string | undefined;
  readonly configFolder: string | undefined;
  /** The built plugin. */
  readonly executable: string;
  readonly entry: PluginEntry;
}

/** The folders as this process reaches them. */
interface VisibleFolders {
  readonly binaryFolder: string;
  readonly configFolder: string;
}

export class Installation {
  readonly folders: CniFolders;
  readonly #visible: VisibleFolders;
  readonly #keeper: InstallationKeeper;

  private constructor(folders: CniFolders, visible: VisibleFolders, options: InstallationOptions) {
    this.folders = folders;
    this.#visible = visible;
    this.#keeper = new InstallationKeeper({
      ...this.#visible,
      executable: options.executable,
      entry: options.entry,
    });
  }

  /** Call it when the agent can serve the plugin: an installed plugin without an agent holds pods up. */
  static async start(options: InstallationOptions): Promise<Installation> {
    const found = await findCniFolders(options.hostRoot, options.hostProc);
    const folders: CniFolders = {
      ...found,
      binaryFolder: options.binaryFolder ?? found.binaryFolder,
      configFolder: options.configFolder ?? found.configFolder,
      foundBy: options.binaryFolder !== undefined && options.configFolder !== undefined ? 'settings' : found.foundBy,
    };
    log.info({ ...folders, hostRoot: options.hostRoot }, 'the folders of the container runtime');
    const visible = {
      binaryFolder: await visiblePath(options.hostRoot, folders.binaryFolder),
      configFolder: await visiblePath(options.hostRoot, folders.configFolder),
    };
    const installation = new Installation(folders, visible, options);
    await installation.#keeper.start();
    return installation;
  }

  status(): KeeperStatus {
    return this.#keeper.status();
  }

  get counts(): InstallationKeeper['counts'] {
    return this.#keeper.counts;
  }

  /** Leaves everything in place: new pods wait for the next agent. */
  async leave(): Promise<void> {
    await this.#keeper.close();
  }

  /** What of ours lies in the runtime's folders, in words. */
  async leftovers(): Promise<string[]> {
    return await findInstalled(this.#visible);
  }

  /** Takes configuration and program away: from now on pods start without the mesh. Never rejects. */
  async remove(): Promise<void> {
    await this.#keeper.close();
    try {
      await uninstallPlugin(this.#visible);
      log.info({ ...this.#visible, plugin: PLUGIN_TYPE }, 'the plugin was removed from the node');
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CONFIGURATION').message }, 'the plugin could not be removed');
    }
  }
}
