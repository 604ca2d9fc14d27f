/**
 * Helm, as a program: what `ambit install` renders is what it applies, and whoever prefers Helm by hand gets the same. The
 * charts are those beside this code.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AmbitError } from '../../core/errors.ts';
import type { ClusterOptions } from '../cluster.ts';

export const RELEASE = 'ambit';
const CHART = join(import.meta.dirname, '..', '..', 'daemonset', 'charts', 'ambit');
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

export interface ChartOptions extends ClusterOptions {
  /** Another chart than ours: a folder or an archive. */
  readonly chart?: string;
  /** Files with values, in order. */
  readonly values?: readonly string[];
  /** Single values, `a.b=c`. */
  readonly set?: readonly string[];
}

/** The manifests an installation consists of, as one YAML text. */
export async function renderChart(options: ChartOptions, kubeVersion: string): Promise<string> {
  return await helm(options, [
    'template',
    RELEASE,
    options.chart ?? CHART,
    '--namespace',
    options.namespace,
    '--kube-version',
    kubeVersion,
    ...valueArguments(options),
  ]);
}

/** Installs, or changes what is installed. Does not wait for anything to run. */
export async function applyChart(options: ChartOptions): Promise<void> {
  await helm(options, [
    'upgrade',
    '--install',
    RELEASE,
    options.chart ?? CHART,
    '--namespace',
    options.namespace,
    '--create-namespace',
    ...valueArguments(options),
  ]);
}

/** The manifests of the installed release; undefined when there is none. */
export async function findInstalledManifest(options: ClusterOptions): Promise<string | undefined> {
  try {
    return await helm(options, ['get', 'manifest', RELEASE, '--namespace', options.namespace]);
  } catch (thrown) {
    if (thrown instanceof AmbitError && /release: not found/.test(thrown.message)) return undefined;
    throw thrown;
  }
}

/** The values the installed release was made with, as YAML; for a file of the user's. */
export async function installedValues(options: ClusterOptions): Promise<string> {
  return await helm(options, ['get', 'values', RELEASE, '--namespace', options.namespace, '--output', 'yaml']);
}

export async function removeRelease(options: ClusterOptions): Promise<void> {
  await helm(options, ['uninstall', RELEASE, '--namespace', options.namespace, '--ignore-not-found']);
}

function valueArguments({ values = [], set = [] }: ChartOptions): string[] {
  return [...values.flatMap((file) => ['--values', file]), ...set.flatMap((pair) => ['--set', pair])];
}

async function helm(options: ClusterOptions, args: readonly string[]): Promise<string> {
  const cluster = [
    ...(options.kubeconfig === undefined ? [] : ['--kubeconfig', options.kubeconfig]),
    ...(options.context === undefined ? [] : ['--kube-context', options.context]),
  ];
  try {
    const run = promisify(execFile);
    const { stdout } = await run(process.env.HELM ?? 'helm', [...args, ...cluster], { maxBuffer: MAX_OUTPUT_BYTES });
    return stdout;
  } catch (thrown) {
    throw failureOf(thrown, args[0] ?? '');
  }
}

function failureOf(thrown: unknown, verb: string): AmbitError {
  const { code, stderr } = fieldsOf(thrown);
  if (code === 'ENOENT') {
    return new AmbitError(
      'MISSING_TOOL',
      'helm is not on the PATH: install Helm 3 (https://helm.sh/docs/intro/install), or set HELM',
    );
  }
  const lines =
    typeof stderr === 'string'
      ? stderr.split('\n').filter((line) => line !== '' && !/found symbolic link/.test(line))
      : [];
  return new AmbitError('CONFIGURATION', `helm ${verb}: ${lines.join('\n') || 'failed'}`, { cause: thrown });
}

/** What `execFile` adds to its errors. */
function fieldsOf(thrown: unknown): { readonly code: unknown; readonly stderr: unknown } {
  if (typeof thrown !== 'object' || thrown === null) return { code: undefined, stderr: undefined };
  return { code: Reflect.get(thrown, 'code'), stderr: Reflect.get(thrown, 'stderr') };
}
