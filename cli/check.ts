/** `ambit check`: is everything as it should be, before an installation (`--pre`) or after it? */
import { Command } from 'commander';
import { KubeClient } from '../kube/client.ts';
import { pagesOf } from './agents.ts';
import { checksFor } from './check/all-checks.ts';
import { renderReport } from './check/report.ts';
import { exitCodeOf, runChecks } from './check/run.ts';
import { CheckWorld } from './check/world.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';

interface CheckOptions extends ClusterOptions {
  readonly pre?: true;
  readonly node?: string;
  readonly output: OutputFormat;
}

export function checkCommand(): Command {
  const command = new Command('check')
    .description(
      'Look at the cluster and say what is wrong and how to fix it (exit code 0: fine, 1: worth a look, 2: broken)',
    )
    .option('--pre', 'before an installation: can it work here?')
    .option('--node <name>', 'look at this node only');
  return clusterOptions(command)
    .addOption(outputOption())
    .action(async (options: CheckOptions) => {
      const client = KubeClient.open({ kubeconfig: options.kubeconfig, context: options.context, userAgent });
      try {
        const world = new CheckWorld({
          client,
          pages: pagesOf(client),
          namespace: options.namespace,
          node: options.node,
          nowMs: Date.now,
        });
        const results = await runChecks(checksFor(options.pre === true ? 'pre' : 'installed'), world);
        printResult(options.output, results, (found) => renderReport(found, process.stdout.isTTY === true));
        process.exitCode = exitCodeOf(results);
      } finally {
        client.close();
      }
    });
}
