/**
 * Writes daemonset/rendered/<name>.yaml: what the whole chart is for the values of daemonset/rendered/<name>.values.yaml. They
 * are plain manifests for whoever does not use Helm, and show what a change of a chart changes. A test compares them.
 *
 *     node scripts/render-charts.ts        needs helm 3 (HELM, or on the PATH, or built for the test bed)
 */
import { spawnSync } from 'node:child_process';
import { globSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { UMBRELLA } from './generate-charts.ts';

const ROOT = join(import.meta.dirname, '..');
export const RENDERED = 'daemonset/rendered';
export const RENDERED_NAMESPACE = 'istio-system';
/** Charts ask for a version; they are the same for all that they support. */
const KUBE_VERSION = '1.34.0';

/** Names of the files with values. */
export function renderedNames(): string[] {
  return globSync('*.values.yaml', { cwd: join(ROOT, RENDERED) })
    .map((file) => basename(file, '.values.yaml'))
    .sort();
}

export interface Rendering {
  readonly text: string;
  /** What helm had to say beside it; empty when all is well. */
  readonly complaints: string;
}

/** Throws with helm's words. */
export function render(name: string, helm: string): Rendering {
  const values = join(RENDERED, `${name}.values.yaml`);
  const args = ['template', 'ambit', UMBRELLA, '--namespace', RENDERED_NAMESPACE, '--kube-version', KUBE_VERSION];
  const { status, stdout, stderr, error } = spawnSync(helm, [...args, '--values', values], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 16 << 20,
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`helm ${args.join(' ')}: ${stderr}`);
  return { text: `${header(name)}${stdout}`, complaints: stderr };
}

function header(name: string): string {
  return `# Made by scripts/render-charts.ts from ${name}.values.yaml.\n`;
}

if (import.meta.main) {
  const helm = process.env.HELM ?? 'helm';
  for (const name of renderedNames()) {
    writeFileSync(join(ROOT, RENDERED, `${name}.yaml`), render(name, helm).text);
    process.stdout.write(`${RENDERED}/${name}.yaml\n`);
  }
}
