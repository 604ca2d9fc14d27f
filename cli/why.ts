/** `ambit why <from> <to:port>`: what would happen to a connection, step by step, and what to do about it. */
import { Command } from 'commander';
import { isRecord } from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';
import { findPolicyFile } from '../sandbox/policy-files.ts';
import { type AdminEndpoint, findAdminEndpoints } from './admin-client.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';
import { renderWhy } from './why-text.ts';

interface WhyOptions {
  readonly output: OutputFormat;
  readonly admin?: string;
}

export function whyCommand(): Command {
  return new Command('why')
    .description('Explain a connection: ambit why legacy/cron shop/stock:8080')
    .argument('<from>', 'pod as namespace/name, or its address')
    .argument('<to>', 'service, pod or address, with :port')
    .option('--admin <host:port>', 'admin address of one agent (default: the sandbox, else 127.0.0.1:15000)')
    .addOption(outputOption())
    .action(async (from: string, to: string, options: WhyOptions) => {
      const report = await ask(await findAdminEndpoints(options.admin), from, to);
      const file = await policyFileOf(report);
      printResult(options.output, file === undefined ? report : { ...report, policyFile: file }, () =>
        renderWhy(report, file),
      );
      if (report.verdict !== 'allowed') process.exitCode = 3;
    });
}

/** The agent of the client's node knows best; any other one knows the same mesh, but not which pods are local there. */
async function ask(
  endpoints: readonly AdminEndpoint[],
  from: string,
  to: string,
): Promise<Readonly<Record<string, unknown>>> {
  const query = `/why?${new URLSearchParams({ from: qualified(from), to })}`;
  let best: Readonly<Record<string, unknown>> | undefined;
  let failure: unknown;
  for (const endpoint of endpoints) {
    try {
      const { status, value } = await endpoint.get(query);
      if (!isRecord(value)) throw new AmbitError('ADMIN_UNREACHABLE', `agent ${endpoint.name} gave no report`);
      if (status !== 200) throw new AmbitError('UNKNOWN_WORKLOAD', String(value.message ?? value.error));
      best ??= value;
      if (isRecord(value.from) && value.from.node === endpoint.name) return value;
    } catch (error) {
      failure = error;
    }
  }
  if (best === undefined) throw failure;
  return best;
}

/** In the sandbox most pods are in namespace shop. */
function qualified(name: string): string {
  return name.includes('/') || /[.:][0-9]|:/.test(name) ? name : `shop/${name}`;
}

async function policyFileOf(report: Readonly<Record<string, unknown>>): Promise<string | undefined> {
  const findings: readonly unknown[] =
    isRecord(report.policy) && Array.isArray(report.policy.findings) ? report.policy.findings : [];
  const decisive = findings.find((finding) => isRecord(finding) && finding.decisive === true);
  return isRecord(decisive) ? findPolicyFile(String(decisive.policy)) : undefined;
}
