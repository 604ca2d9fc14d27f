/**
 * Keeps the plugin installed: looks at the runtime's folders when something changes in them, and from time to time, and
 * repairs what is missing. Repairs are limited, so that two programs that undo each other's work do not do it for ever at
 * full speed; when the limit bites again and again, the operator is told whom to ask.
 *
 * What the outside sees is `status()`; a node whose plugin is not in place is not ready.
 */
import { type FSWatcher, watch } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { type InstallOptions, inspectInstallation, installPlugin, OWN_CONFLISTS } from './installer.ts';

const log = logger('install');

export interface KeeperTimes {
  /** Looks without having been told of a change. */
  readonly pollMs: number;
  /** Changes this close together are one. */
  readonly settleMs: number;
  /** A repair is earned once in this time, and this many may be saved up. */
  readonly repairEveryMs: number;
  readonly repairsSaved: number;
}

export const KEEPER_TIMES: KeeperTimes = { pollMs: 10_000, settleMs: 50, repairEveryMs: 5_000, repairsSaved: 5 };

/** Rounds in a row that had to wait before the operator hears of a fight. */
const FIGHT_ROUNDS = 5;

export type KeeperStatus =
  | { readonly state: 'installed' }
  /** Not in place: why, in words. */
  | { readonly state: 'incomplete'; readonly problem: string };

export class InstallationKeeper {
  readonly #options: InstallOptions;
  readonly #times: KeeperTimes;
  readonly #watchers: FSWatcher[] = [];
  #status: KeeperStatus = { state: 'incomplete', problem: 'not looked at yet' };
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #closed = false;
  #savedRepairs: number;
  #lastEarnedMs = performance.now();
  #heldRounds = 0;
  /** Installations that succeeded and failed, for metrics. */
  readonly counts = { installed: 0, failed: 0 };

  constructor(options: InstallOptions, times: KeeperTimes = KEEPER_TIMES) {
    this.#options = options;
    this.#times = times;
    this.#savedRepairs = times.repairsSaved;
  }

  /** Resolves after the first look; a node without a network yet is no failure, the keeper waits for it. */
  async start(): Promise<void> {
    for (const folder of [this.#options.configFolder, this.#options.binaryFolder]) this.#watch(folder);
    await this.#lookNext();
  }

  status(): KeeperStatus {
    return this.#status;
  }

  /** Stops looking; what is installed stays. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
    await this.#running;
  }

  #watch(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, () => this.#lookIn(this.#times.settleMs));
      // The folder went away or the watch was lost: the polls go on.
      watcher.on('error', () => watcher.close());
      this.#watchers.push(watcher);
    } catch (thrown) {
      log.warn({ folder, reason: toAmbitError(thrown, 'CONFIGURATION').message }, 'a folder of the runtime is polled');
    }
  }

  #lookIn(delayMs: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      void this.#lookNext();
    }, delayMs).unref();
  }

  /** One look after another: two of them would write the same files. A change during a look is seen by the next. */
  #lookNext(): Promise<void> {
    this.#running = this.#running.then(() => this.#look());
    return this.#running;
  }

  async #look(): Promise<void> {
    if (this.#closed) return;
    try {
      const problems = await inspectInstallation(this.#options);
      if (problems.length === 0) this.#settled();
      else if (this.#mayRepair()) await this.#repair(problems);
      else await this.#hold(problems);
    } catch (thrown) {
      this.#failed(toAmbitError(thrown, 'CONFIGURATION').message);
    }
    this.#lookIn(this.#times.pollMs);
  }

  #settled(): void {
    this.#heldRounds = 0;
    if (this.#status.state !== 'installed') log.info({ folder: this.#options.configFolder }, 'the plugin is installed');
    this.#status = { state: 'installed' };
  }

  async #repair(problems: readonly string[]): Promise<void> {
    this.#savedRepairs--;
    if (this.#status.state === 'installed')
      log.warn({ problems }, 'the installation of the plugin was changed: repairing');
    await installPlugin(this.#options);
    this.counts.installed++;
    this.#settled();
  }

  async #hold(problems: readonly string[]): Promise<void> {
    this.#heldRounds++;
    const problem = problems.join('; ');
    this.#status = { state: 'incomplete', problem };
    if (this.#heldRounds !== FIGHT_ROUNDS) return;
    const rival = await findRival(this.#options.configFolder);
    log.error({ problem, rival }, 'another program keeps undoing the installation of the plugin');
  }

  #failed(problem: string): void {
    this.counts.failed++;
    const news = this.#status.state === 'installed' || this.#status.problem !== problem;
    this.#status = { state: 'incomplete', problem };
    if (news) log.warn({ problem }, 'the plugin cannot be installed yet');
  }

  #mayRepair(): boolean {
    const { repairEveryMs, repairsSaved } = this.#times;
    const earned = Math.floor((performance.now() - this.#lastEarnedMs) / repairEveryMs);
    if (earned > 0) {
      this.#lastEarnedMs += earned * repairEveryMs;
      this.#savedRepairs = Math.min(repairsSaved, this.#savedRepairs + earned);
    }
    return this.#savedRepairs > 0;
  }
}

/** Who takes our configuration away, where that can be told from the traces. */
export async function findRival(configFolder: string): Promise<string> {
  const names = await readdir(configFolder).catch(() => []);
  if (names.some((name) => OWN_CONFLISTS.some((own) => name === `${own}.cilium_bak`))) {
    return 'Cilium renames the configurations of other plugins: set cni.exclusive=false in its Helm values (cni-exclusive in the ConfigMap cilium-config)';
  }
  return 'unknown: look for another agent that manages this folder';
}
