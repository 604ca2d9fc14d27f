/**
 * The first process of a run's own namespaces (started by host.ts). Builds the sandbox, shows it until it is told to end,
 * or runs the unattended check, and takes everything down in order. Whatever it would forget, the kernel removes with it.
 *
 * Exit status: 0 ended as asked (check: all held), 1 failed, 2 a check did not hold.
 */
import { writeSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { release, type } from 'node:os';
import { isRecord } from '../core/decoder.ts';
import { toAmbitError } from '../core/errors.ts';
import { CommandServer } from './command-server.ts';
import { MESH_DIRECTORY, NETNS_DIRECTORY, NODE_NAMES } from './layout.ts';
import { LiveView } from './live-view.ts';
import { readMeshFiles } from './mesh-files.ts';
import { Sandbox } from './sandbox.ts';
import { Screen } from './screen.ts';
import { Steps } from './steps.ts';

/** What the host side passes as the only argument, JSON. */
export interface WorldOptions {
  readonly check: boolean;
  readonly json: boolean;
  readonly pluginDirectories: readonly string[];
}

/** Descriptor on which the host side reads reports, one JSON object per line; see `WorldReport`. */
const REPORT_FD = 3;

const CHECK_SETTINGS = { SECRET_TTL: '30s' };

async function main(): Promise<number> {
  const options = readOptions(process.argv[2] ?? '');
  const screen = new Screen(process.stdout);
  const steps = new Steps(screen, options.json);
  const stopRequested = new AbortController();
  let requests = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      // One key press reaches this process from the terminal and, later, perhaps through the host side.
      if (++requests > 2) process.exit(130);
      stopRequested.abort();
    });
  }
  const sandbox = new Sandbox({
    pluginDirectories: options.pluginDirectories,
    copyMesh: options.check,
    agentSettings: options.check ? CHECK_SETTINGS : {},
    podEnv: options.check ? { CALLS_PER_SECOND: '0' } : {},
    onStep: (name, work) => steps.run(name, Promise.race([work, rejectOnAbort(stopRequested.signal)])),
  });
  let commands: CommandServer | undefined;
  try {
    if (!options.json) screen.print(await headline());
    await sandbox.start();
    commands = await CommandServer.open(sandbox);
    if (options.check) {
      const { runCheck } = await import('./check/run.ts');
      const check = runCheck(sandbox, { screen, json: options.json, signal: stopRequested.signal });
      return (await Promise.race([check, rejectOnAbort(stopRequested.signal)])) ? 0 : 2;
    }
    await new LiveView(sandbox, screen).run(stopRequested.signal);
    return 0;
  } catch (error) {
    if (stopRequested.signal.aborted) return 130;
    const problem = toAmbitError(error, 'SANDBOX');
    process.stderr.write(`\nsandbox: ${problem.message}\nnext: ${problem.row.hint}\n`);
    return 1;
  } finally {
    await reportNamespaces();
    if (!options.json) screen.print('removing pods, agents, control plane');
    commands?.close();
    await sandbox.stop().catch((error: unknown) => process.stderr.write(`sandbox: while stopping: ${String(error)}\n`));
  }
}

/** `ambit sandbox · Linux 6.18 · node 26.10 · 2 nodes, 5 pods` */
async function headline(): Promise<string> {
  const { pods } = await readMeshFiles(MESH_DIRECTORY);
  const short = (version: string): string => version.split('.').slice(0, 2).join('.');
  const parts = [`${type()} ${short(release())}`, `node ${short(process.versions.node)}`];
  return ['ambit sandbox', ...parts, `${NODE_NAMES.length} nodes, ${pods.length} pods`].join(' · ');
}

/** Tells the host side which network namespaces existed, so that it can look for them after the end. */
async function reportNamespaces(): Promise<void> {
  const names = await readdir(NETNS_DIRECTORY).catch(() => []);
  const namespaces: string[] = [];
  for (const name of names) namespaces.push(`net:[${(await stat(`${NETNS_DIRECTORY}/${name}`)).ino}]`);
  try {
    writeSync(REPORT_FD, `${JSON.stringify({ namespaces })}\n`);
  } catch {
    // The host side is gone.
  }
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(new Error('interrupted'));
    signal.addEventListener('abort', () => reject(new Error('interrupted')), { once: true });
  });
}

function readOptions(text: string): WorldOptions {
  const value: unknown = JSON.parse(text);
  if (!isRecord(value) || !Array.isArray(value.pluginDirectories)) throw new Error('started without its options');
  return {
    check: value.check === true,
    json: value.json === true,
    pluginDirectories: value.pluginDirectories.map(String),
  };
}

process.exit(await main());
