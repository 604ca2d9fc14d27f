/** `ambit why <from> <to:port>`: what would happen to a connection, step by step, and what to do about it. */
import { Command } from 'commander';
import { isRecord } from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';
import { findPolicyFile } from '../sandbox/policy-files.ts';
import { type AdminEndpoint, type AdminEndpoints, type AdminOptions, openAdminEndpoints } from './admin-client.ts';
import { clusterOptions } from './cluster.ts';
import { type OutputFormat, outputOption, printResult } from './output.ts';
import { renderWhy } from './why-text.ts';

interface WhyOptions extends AdminOptions {
  readonly output: OutputFormat;
}

export function whyCommand(): Command {
  const command = new Command('why')
    .description('Explain a connection: ambit why legacy/cron shop/stock:8080')
    .argument('<from>', 'pod as namespace/name, or its address')
    .argument('<to>', 'service, pod or address, with :port (a service with one port needs none)')
    .option(
      '--admin <host:port>',
      'admin address of one agent (default: the sandbox, a cluster, else 127.0.0.1:15000)',
    );
  return clusterOptions(command)
    .addOption(outputOption())
    .action(async (from: string, to: string, options: WhyOptions) => {
      using agents = await openAdminEndpoints(options);
      const report = await ask(agents.endpoints, qualified(from, agents.of), to);
      const file = agents.of === 'sandbox' ? await policyFileOf(report) : undefined;
      printResult(options.output, file === undefined ? report : { ...report, policyFile: file }, () =>
        renderWhy(report, file),
      );
      if (report.verdict !== 'allowed') process.exitCode = 3;
    });
}

type WhyReport = Readonly<Record<string, unknown>>;

/**
 * The agent of the client's node knows best: any other one knows the same mesh, but not which pods are local there. So the
 * first that answers is asked where the client is, and then the one of that node.
 */
export async function ask(endpoints: readonly AdminEndpoint[], from: string, to: string): Promise<WhyReport> {
  const query = `/why?${new URLSearchParams({ from, to })}`;
  let failure: unknown;
  for (const endpoint of endpoints) {
    try {
      const report = await askOne(endpoint, query);
      const node = isRecord(report.from) ? report.from.node : undefined;
      const local = endpoints.find(({ name }) => name === node && name !== endpoint.name);
      // An agent that does not answer now: what its neighbour knows is better than nothing.
      return local === undefined ? report : await askOne(local, query).catch(() => report);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

async function askOne(endpoint: AdminEndpoint, query: string): Promise<WhyReport> {
  const { status, value } = await endpoint.get(query);
  if (!isRecord(value)) throw new AmbitError('ADMIN_UNREACHABLE', `agent ${endpoint.name} gave no report`);
  if (status !== 200) throw new AmbitError('UNKNOWN_WORKLOAD', String(value.message ?? value.error));
  return value;
}

/** In the sandbox most pods are in namespace shop. */
function qualified(name: string, of: AdminEndpoints['of']): string {
  if (name.includes('/') || /[.:][0-9]|:/.test(name)) return name;
  return `${of === 'sandbox' ? 'shop' : 'default'}/${name}`;
}

async function policyFileOf(report: Readonly<Record<string, unknown>>): Promise<string | undefined> {
  const findings: readonly unknown[] =
    isRecord(report.policy) && Array.isArray(report.policy.findings) ? report.policy.findings : [];
  const decisive = findings.find((finding) => isRecord(finding) && finding.decisive === true);
  return isRecord(decisive) ? findPolicyFile(String(decisive.policy)) : undefined;
}
