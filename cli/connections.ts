/** `ambit connections`: the live connections of the agents that can be reached. */
import { Command } from 'commander';
import { isRecord } from '../core/decoder.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { type AdminOptions, askEach, openAdminEndpoints } from './admin-client.ts';
import { clusterOptions } from './cluster.ts';
import { formatBytes, formatDuration, type OutputFormat, outputOption, printResult, renderTable } from './output.ts';

interface ConnectionsOptions extends AdminOptions {
  readonly output: OutputFormat;
  readonly node?: string;
}

export function connectionsCommand(): Command {
  const command = new Command('connections')
    .description('Live connections: who talks to whom, over which path, as whom')
    .option('--node <name>', 'of this node only')
    .option(
      '--admin <host:port>',
      'admin address of one agent (default: the sandbox, a cluster, else 127.0.0.1:15000)',
    );
  return clusterOptions(command)
    .addOption(outputOption())
    .action(async (options: ConnectionsOptions) => {
      const { connections, failures } = await fetchConnections(options);
      printResult(options.output, connections, renderConnections);
      for (const failure of failures) process.stderr.write(`ambit: ${failure.message}\n`);
      if (failures.length > 0) process.exitCode = 1;
    });
}

type ConnectionRow = Readonly<Record<string, unknown>>;

/** Connections of every agent that answers, each with its `agent`; throws when none does. */
async function fetchConnections(
  options: ConnectionsOptions,
): Promise<{ connections: ConnectionRow[]; failures: AmbitError[] }> {
  using agents = await openAdminEndpoints(options);
  const endpoints = agents.endpoints.filter(({ name }) => options.node === undefined || name === options.node);
  if (endpoints.length === 0) throw new AmbitError('ADMIN_UNREACHABLE', `no agent runs on ${options.node}`);
  const answers = await askEach(endpoints, '/connections');
  const connections: ConnectionRow[] = [];
  const failures: AmbitError[] = [];
  for (const [index, { name }] of endpoints.entries()) {
    const answer = answers[index];
    const value = answer?.status === 'fulfilled' ? answer.value.value : undefined;
    if (Array.isArray(value)) connections.push(...value.filter(isRecord).map((row) => ({ agent: name, ...row })));
    else if (answer?.status === 'rejected') failures.push(toAmbitError(answer.reason, 'ADMIN_UNREACHABLE'));
    else failures.push(new AmbitError('ADMIN_UNREACHABLE', `agent ${name} gave no list`));
  }
  const [first] = failures;
  if (first !== undefined && failures.length === endpoints.length) throw first;
  return { connections, failures };
}

/** The table of `ambit connections`. */
export function renderConnections(connections: readonly ConnectionRow[]): string {
  if (connections.length === 0) return 'no live connection at this moment (short ones come and go; see the access log)';
  const rows = connections.map((row) => [
    text(row.agent),
    text(row.direction),
    endName(row.sourceNamespace, row.sourceWorkload, row.source),
    endName(row.destinationNamespace, row.destinationWorkload, row.originalDestination),
    text(row.originalDestination),
    text(row.path),
    account(row.sourceIdentity),
    formatDuration(Number(row.ageMs)),
    formatBytes(Number(row.bytesReceived)),
    formatBytes(Number(row.bytesSent)),
  ]);
  return renderTable(
    ['AGENT', 'DIRECTION', 'FROM', 'TO', 'DIALLED', 'PATH', 'CLIENT IDENTITY', 'AGE', 'REQUEST', 'RESPONSE'],
    rows,
  );
}

function endName(namespace: unknown, workload: unknown, address: unknown): string {
  return workload === undefined ? text(address) : `${text(namespace)}/${text(workload)}`;
}

function account(identity: unknown): string {
  return identity === undefined ? 'none' : text(identity).replace(/^spiffe:\/\/[^/]+\//, '');
}

function text(value: unknown): string {
  return value === undefined ? '' : String(value);
}
