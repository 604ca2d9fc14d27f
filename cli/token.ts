/** `ambit token`: a token with which an agent or a workload authenticates to the control plane. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { mintToken, readTokenKey } from '../control/tokens.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';

const HOUR_MS = 3_600_000;

interface TokenOptions {
  readonly key: string;
  readonly account: { readonly namespace: string; readonly serviceAccount: string };
  readonly node?: string;
  readonly hours: number;
  readonly output: OutputFormat;
}

export function tokenCommand(): Command {
  return new Command('token')
    .description(
      'Print a token for an agent (with --node) or a workload, signed with the token key of the control plane',
    )
    .requiredOption('--key <file>', 'token-key.pem in the state folder of the control plane')
    .addOption(
      new Option('--account <namespace/name>', 'service account of the caller')
        .argParser(parseAccount)
        .default({ namespace: 'istio-system', serviceAccount: 'ambit-agent' }, 'istio-system/ambit-agent'),
    )
    .option('--node <name>', 'node the agent runs on: it gets the identities of pods there and no others')
    .option('--hours <number>', 'how long the token is valid', parseHours, 24)
    .addOption(outputOption())
    .action(async ({ key, account, node, hours, output }: TokenOptions) => {
      const subject = node === undefined ? account : { ...account, node };
      const expires = new Date(Date.now() + hours * HOUR_MS).toISOString();
      const token = await mintToken(readTokenKey(key), subject, hours * HOUR_MS);
      printResult(output, { token, ...subject, expires }, (value) => value.token);
    });
}

function parseAccount(text: string): TokenOptions['account'] {
  const match = /^([a-z0-9][-a-z0-9]*)\/([a-z0-9][-a-z0-9.]*)$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) throw new InvalidArgumentError('Not <namespace>/<name>.');
  return { namespace: match[1], serviceAccount: match[2] };
}

function parseHours(text: string): number {
  const hours = Number(text);
  if (!(hours > 0 && hours <= 8760)) throw new InvalidArgumentError('Not a number of hours up to 8760.');
  return hours;
}
