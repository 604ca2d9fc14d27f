/** `ambit connections`: the live connections of the agents that can be reached. */
import { Command } from 'commander';
import { isRecord } from '../core/decoder.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { findAdminEndpoints } from './admin-client.ts';
import { formatBytes, formatDuration, type OutputFormat, outputOption, printResult, renderTable } from './output.ts';

interface ConnectionsOptions {
  readonly output: OutputFormat;
  readonly admin?: string;
}

export function connectionsCommand(): Command {
  return new Command('connections')
    .description('Live connections: who talks to whom, over which path, as whom')
    .option('--admin <host:port>', 'admin address of one agent (default: the sandbox, else 127.0.0.1:15000)')
    .addOption(outputOption())
    .action(async (options: ConnectionsOptions) => {
      const { connections, failures } = await fetchConnections(options.admin);
      printResult(options.output, connections, renderConnections);
      for (const failure of failures) process.stderr.write(`ambit: ${failure.message}\n`);
    });
}

type ConnectionRow = Readonly<Record<string, unknown>>;

/** Connections of every agent that answers, each with its `agent`; throws when none does. */
async function fetchConnections(
  admin: string | undefined,
): Promise<{ connections: ConnectionRow[]; failures: AmbitError[] }> {
  const endpoints = await findAdminEndpoints(admin);
  const connections: ConnectionRow[] = [];
  const failures: AmbitError[] = [];
  for (const endpoint of endpoints) {
    try {
      const { value } = await endpoint.get('/connections');
      if (!Array.isArray(value)) throw new AmbitError('ADMIN_UNREACHABLE', `agent ${endpoint.name} gave no list`);
      connections.push(...value.filter(isRecord).map((row) => ({ agent: endpoint.name, ...row })));
    } catch (error) {
      failures.push(toAmbitError(error, 'ADMIN_UNREACHABLE'));
    }
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
