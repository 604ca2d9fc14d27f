/** `ambit analyze`: the checks of the webhook and more, over files before they are applied, or over a whole cluster. */
import { Command } from 'commander';
import { analyze, sorted } from '../control/validation/analyze.ts';
import { Collector } from '../control/validation/collect.ts';
import { DEFAULT_ANALYSIS_SETTINGS } from '../control/validation/view.ts';
import { AmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { readCluster } from './analyze/cluster.ts';
import { readFiles } from './analyze/files.ts';
import { type AnalysisReport, exitCodeOf, makeReport, renderReport } from './analyze/report.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { type OutputFormat, outputOption, printFailure, printResult } from './output.ts';

interface AnalyzeOptions extends ClusterOptions {
  readonly trustDomain?: string;
  readonly output: OutputFormat;
}

export function analyzeCommand(): Command {
  const command = new Command('analyze')
    .description(
      'Find policies, labels and services that do not do what they say, in files or in the cluster (exit code 0: fine, 1: warnings, 2: errors)',
    )
    .argument('[paths...]', 'files, folders or - for standard input (default: the cluster)')
    .option('--trust-domain <name>', 'trust domain of the mesh (default: that of the cluster, else cluster.local)');
  return clusterOptions(command)
    .addOption(outputOption())
    .action(async (paths: string[], options: AnalyzeOptions) => {
      try {
        const report = paths.length > 0 ? analyzeFiles(paths, options) : await analyzeCluster(options);
        printResult(options.output, report, (found) => renderReport(found, process.stdout.isTTY === true));
        process.exitCode = exitCodeOf(report);
      } catch (thrown) {
        // 1 means warnings here.
        printFailure(thrown);
        process.exitCode = 2;
      }
    });
}

/** Throws CONFIGURATION when there is nothing to read. */
export function analyzeFiles(
  paths: readonly string[],
  options: Pick<AnalyzeOptions, 'namespace' | 'trustDomain'>,
): AnalysisReport {
  const { values, findings: unparsed, files } = readFiles(paths);
  if (files === 0) throw new AmbitError('CONFIGURATION', `no .yaml, .yml or .json file in ${paths.join(', ')}`);
  const collector = new Collector();
  const where = new Map<string, string>();
  for (const { value, where: at } of values) {
    const key = collector.add(value);
    if (key !== undefined && !where.has(key)) where.set(key, at);
  }
  const { namespace: rootNamespace, trustDomain } = options;
  const { view, findings, count } = collector.finish({
    complete: false,
    settings: { ...DEFAULT_ANALYSIS_SETTINGS, rootNamespace, ...(trustDomain === undefined ? {} : { trustDomain }) },
  });
  const all = sorted([...unparsed, ...findings, ...analyze(view)]);
  return makeReport(all, { objects: count, files, notRead: [] }, where);
}

async function analyzeCluster(options: AnalyzeOptions): Promise<AnalysisReport> {
  const { kubeconfig, context, namespace, trustDomain } = options;
  const client = KubeClient.open({ kubeconfig, context, userAgent });
  try {
    const { view, findings, count, forbidden } = await readCluster(client, namespace, trustDomain);
    return makeReport(sorted([...findings, ...analyze(view)]), { objects: count, notRead: forbidden });
  } finally {
    client.close();
  }
}
