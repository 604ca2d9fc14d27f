/** The screen of `ambit status`. Pure. */
import { styleText } from 'node:util';
import { formatBytes, renderTable } from '../output.ts';
import type { AgentStatus, MeshStatus } from './read-status.ts';

/** Rows of one part that are shown; the rest is counted. */
const MOST_ROWS = 15;

/** `colours`: for a terminal. */
export function renderStatus(status: MeshStatus, colours: boolean): string {
  const { control, agents, namespaces, policies, unknown, problems } = status;
  const well = problems.length === 0;
  const paint = (text: string): string => (colours ? styleText(well ? 'green' : 'red', text) : text);
  const lines = [
    `control plane  ${control.available} of ${control.replicas} replicas, version ${control.version || '-'}, writer ${control.leader || '-'}`,
    '',
    ...limited(agents, (rows) => renderTable(AGENT_TITLES, rows.map(agentRow)), 'agents'),
    '',
  ];
  if (namespaces.length === 0)
    lines.push('no namespace is in the mesh: kubectl label namespace <name> istio.io/dataplane-mode=ambient');
  else {
    const table = (rows: MeshStatus['namespaces']): string =>
      renderTable(
        ['NAMESPACE', 'IN THE MESH'],
        rows.map(({ name, pods, captured }) => [name, `${captured} of ${pods} pods`]),
      );
    lines.push(...limited(namespaces, table, 'namespaces'));
  }
  lines.push('');
  if (policies.length === 0) lines.push('policies  everything is enforced as written');
  else {
    const table = (rows: MeshStatus['policies']): string =>
      renderTable(
        ['NOT ENFORCED AS WRITTEN', 'CODE', 'WHY'],
        rows.map(({ object, code, message }) => [object, code, message]),
      );
    lines.push(...limited(policies, table, 'findings (ambit analyze)'));
  }
  for (const part of unknown) lines.push(`not known: ${part}`);
  lines.push('', paint(well ? '√ all well' : `× ${problems.join('\n× ')}`));
  if (!well) lines.push('next: ambit check');
  return lines.join('\n');
}

const AGENT_TITLES = ['NODE', 'AGENT', 'READY', 'VERSION', 'CAPTURED', 'PENDING', 'MEMORY', 'DISCOVERY'];

function agentRow(agent: AgentStatus): readonly (string | number)[] {
  const { node, pod, ready, version, captured, pending, memoryBytes, inSync } = agent;
  return [
    node,
    pod === '' ? '-' : pod,
    ready ? 'yes' : 'no',
    version ?? '-',
    captured,
    pending,
    memoryBytes === undefined ? '-' : formatBytes(memoryBytes),
    inSync ? 'in sync' : 'behind',
  ];
}

function limited<T>(rows: readonly T[], render: (rows: readonly T[]) => string, what: string): string[] {
  const shown = render(rows.slice(0, MOST_ROWS));
  return rows.length <= MOST_ROWS ? [shown] : [shown, `and ${rows.length - MOST_ROWS} more ${what}`];
}
