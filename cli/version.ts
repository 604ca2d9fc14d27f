/** `ambit version`: what runs here, for bug reports. */
import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { Command } from 'commander';
import { type OutputFormat, outputOption, printResult } from './output.ts';

interface VersionView {
  readonly ambit: string;
  readonly node: string;
  readonly openssl: string;
  readonly nghttp2: string;
  readonly kernel: string;
}

export function versionCommand(): Command {
  return new Command('version')
    .description('Versions of Ambit and of what it runs on')
    .addOption(outputOption())
    .action(async (options: { readonly output: OutputFormat }) => {
      printResult(options.output, await readVersions(), (versions) =>
        Object.entries(versions)
          .map(([name, value]) => `${name.padEnd(8)} ${String(value)}`)
          .join('\n'),
      );
    });
}

async function readVersions(): Promise<VersionView> {
  const manifest: unknown = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
  const ambit =
    typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : '';
  const { node, openssl = '', nghttp2 = '' } = process.versions;
  return { ambit, node, openssl, nghttp2, kernel: release() };
}
