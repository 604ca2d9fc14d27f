/** `ambit sysdump`: everything somebody who helps needs to see, in one file, and nothing that is secret. */
import { Command } from 'commander';
import { AmbitError } from '../core/errors.ts';
import { KubeClient } from '../kube/client.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { formatBytes, type OutputFormat, outputOption } from './output.ts';
import { conclude, progress } from './progress.ts';
import { openArchive } from './sysdump/archive.ts';
import { gather } from './sysdump/gather.ts';

interface SysdumpOptions extends ClusterOptions {
  readonly file?: string;
  readonly logLines: string;
  readonly output: OutputFormat;
}

const MOST_LOG_LINES = 100_000;

export function sysdumpCommand(): Command {
  const command = new Command('sysdump')
    .description(
      'Put versions, objects, logs, reports and checks into one archive for support; keys and tokens stay out',
    )
    .option('--file <path>', 'archive (.tar.gz), or a folder (default: ambit-sysdump-<time>.tar.gz)')
    .option('--log-lines <count>', 'lines of each log, from its end', '5000');
  return clusterOptions(command)
    .addOption(outputOption())
    .action(async (options: SysdumpOptions) => {
      const { kubeconfig, context, namespace, output } = options;
      const logLines = Number(options.logLines);
      if (!Number.isInteger(logLines) || logLines < 1 || logLines > MOST_LOG_LINES)
        throw new AmbitError(
          'USAGE',
          `--log-lines takes a number from 1 to ${MOST_LOG_LINES}, not ${options.logLines}`,
        );
      const say = progress(output);
      const client = KubeClient.open({ kubeconfig, context, userAgent });
      try {
        const now = new Date();
        const stamp = now.toISOString().replace(/\..*$/, '').replaceAll(/[-:]/g, '').replace('T', '-');
        const path = options.file ?? `ambit-sysdump-${stamp}.tar.gz`;
        const archive = await openArchive(path, now.getTime());
        const files: { name: string; bytes: number }[] = [];
        const missing: string[] = [];
        // One file is written at a time, whoever is ready first.
        let last = Promise.resolve();
        const add = (name: string, text: string): Promise<void> => {
          files.push({ name, bytes: Buffer.byteLength(text) });
          last = last.then(() => archive.add(name, text));
          return last;
        };
        await gather({ client, namespace, logLines, add, missing: (what) => missing.push(what) });
        await add('missing.json', `${JSON.stringify(missing, undefined, 2)}\n`);
        await archive.close();
        const bytes = files.reduce((sum, one) => sum + one.bytes, 0);
        for (const what of missing) say(`  not in it: ${what}`);
        say(
          `${path}: ${files.length} files, ${formatBytes(bytes)} unpacked. Look through it before you give it away: it names your workloads and their addresses.`,
        );
        conclude(output, { path, files, missing });
      } finally {
        client.close();
      }
    });
}
