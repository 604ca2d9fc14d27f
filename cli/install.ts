/** `ambit install` and `ambit upgrade`: pre-checks, what will change, apply, wait with reasons. */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { AmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { checksFor } from './check/all-checks.ts';
import { textAt } from './check/fields.ts';
import { renderReport } from './check/report.ts';
import { runChecks } from './check/run.ts';
import { CheckWorld } from './check/world.ts';
import { clusterOptions, userAgent } from './cluster.ts';
import { applyDefinitions } from './install/definitions.ts';
import { applyChart, type ChartOptions, findInstalledManifest, renderChart } from './install/helm.ts';
import { compareManifests, countKinds, type ManifestChange, parseManifest } from './install/manifest.ts';
import { findObstacles, inspectRollout } from './install/rollout.ts';
import { formatDuration, type OutputFormat, outputOption } from './output.ts';
import { conclude, progress, type Say } from './progress.ts';

interface InstallOptions extends ChartOptions {
  readonly dryRun?: true;
  readonly yes?: true;
  readonly skipChecks?: true;
  readonly gatewayApi?: string;
  /** Seconds. */
  readonly timeout: string;
  readonly output: OutputFormat;
}

type Verb = 'install' | 'upgrade';

const LOOK_INTERVAL_MS = 250;
/** Reasons are looked for when nothing has changed for this long. */
const SILENCE_MS = 5_000;

export function installCommand(): Command {
  return command('install', 'Install Ambit into a cluster');
}

export function upgradeCommand(): Command {
  return command('upgrade', 'Bring an installed Ambit to this version, or change its values');
}

function command(verb: Verb, description: string): Command {
  return clusterOptions(new Command(verb).description(description))
    .option('-f, --values <file...>', 'files with values of the chart')
    .option('--set <pair...>', 'single values, for example ambit-control.replicaCount=1')
    .option('--chart <path>', 'another chart: a folder or an archive')
    .option('--gateway-api <file>', 'also apply the definitions of the Gateway API from this file')
    .option('--dry-run', 'print what would be applied and stop')
    .option('--skip-checks', 'go on although a pre-check failed')
    .option('-y, --yes', 'do not ask')
    .option('--timeout <seconds>', 'how long to wait until everything runs', '300')
    .addOption(outputOption())
    .action((options: InstallOptions) => run(verb, options));
}

async function run(verb: Verb, options: InstallOptions): Promise<void> {
  const started = performance.now();
  const say = progress(options.output);
  const client = KubeClient.open({ kubeconfig: options.kubeconfig, context: options.context, userAgent });
  try {
    const version = textAt(await client.request({ method: 'GET', path: '/version' }), 'gitVersion');
    const manifest = await renderChart(options, version);
    if (options.dryRun === true) {
      process.stdout.write(manifest);
      return;
    }
    say(`Kubernetes ${version} at ${client.server}, namespace ${options.namespace}`);
    await check(client, options, say);
    const installed = await findInstalledManifest(options);
    if (verb === 'upgrade' && installed === undefined) {
      throw new AmbitError('CONFIGURATION', `nothing is installed in namespace ${options.namespace}: ambit install`);
    }
    const after = parseManifest(manifest);
    const changes = compareManifests(parseManifest(installed ?? ''), after);
    say(installed === undefined ? `will create ${countKinds(after)}` : describeChanges(changes));
    if (changes.length > 0 && !(await agreed(options))) return;
    if (options.gatewayApi !== undefined) {
      const names = await applyDefinitions(client, await readFile(options.gatewayApi, 'utf8'));
      say(`definitions of the Gateway API: ${names.length} applied`);
    }
    await applyChart(options);
    await waitUntilRunning(client, options.namespace, Number(options.timeout) * 1000, say);
    const durationMs = Math.round(performance.now() - started);
    say(`done in ${formatDuration(durationMs)}`);
    say('next:  kubectl label namespace <name> istio.io/dataplane-mode=ambient    then:  ambit check');
    conclude(options.output, { kubernetes: version, namespace: options.namespace, changes, durationMs });
  } finally {
    client.close();
  }
}

/** Shows what is wrong and refuses when something would not work. */
async function check(client: KubeClient, options: InstallOptions, say: Say): Promise<void> {
  const world = new CheckWorld({ client, namespace: options.namespace, node: undefined, nowMs: Date.now });
  const results = await runChecks(checksFor('pre'), world);
  const wrong = results.filter(({ level }) => level !== 'ok');
  if (wrong.length > 0) say(renderReport(wrong, process.stdout.isTTY === true));
  else say(`pre-checks: ${results.length} ok`);
  if (options.skipChecks !== true && wrong.some(({ level }) => level === 'failed')) {
    throw new AmbitError('CONFIGURATION', 'a pre-check failed, nothing was changed (--skip-checks goes on regardless)');
  }
}

function describeChanges(changes: readonly ManifestChange[]): string {
  if (changes.length === 0) return 'nothing changes';
  return changes
    .flatMap(({ id, what, lines }) => [`${what.padEnd(7)}  ${id}`, ...lines.map((line) => `    ${line}`)])
    .join('\n');
}

/** Asks only a person at a terminal. */
async function agreed(options: InstallOptions): Promise<boolean> {
  if (options.yes === true || process.stdin.isTTY !== true) return true;
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await prompt.question('go on? [y/N] ')).trim());
  } finally {
    prompt.close();
  }
}

async function waitUntilRunning(client: KubeClient, namespace: string, timeoutMs: number, say: Say): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  const told = new Set<string>();
  let changedMs = performance.now();
  const tell = (line: string): void => {
    if (told.has(line)) return;
    told.add(line);
    changedMs = performance.now();
    say(line);
  };
  for (;;) {
    const parts = await inspectRollout(client, namespace);
    tell(`  ${parts.map(({ text }) => text).join(', ') || 'not there yet'}`);
    if (parts.length > 0 && parts.every(({ done }) => done)) return;
    if (performance.now() - changedMs > SILENCE_MS) {
      for (const reason of await findObstacles(client, namespace)) tell(`    ${reason}`);
      changedMs = performance.now();
    }
    if (performance.now() > deadlineMs) {
      const why = (await findObstacles(client, namespace)).join('; ');
      throw new AmbitError('NOT_RUNNING', `not everything runs after ${formatDuration(timeoutMs)}: ${why}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}
